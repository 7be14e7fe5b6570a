"""One client's connection: each request is logged, meets its fault if any, and is answered."""

import asyncio
import contextlib
from dataclasses import dataclass

from sweeper.sandbox import controls, delivery
from sweeper.sandbox.api import Api, Request
from sweeper.sandbox.clock import Clock
from sweeper.sandbox.controls import Controls
from sweeper.sandbox.delivery import Delivery
from sweeper.sandbox.faults import Fault, Faults
from sweeper.sandbox.journal import Arrival, Journal
from sweeper.sandbox.manners import Ending, Manner
from sweeper.sandbox.reception import Reception, Refused
from sweeper.sandbox.shapes import Answer

_PORTION = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What every connection of one sandbox works with."""

    api: Api
    clock: Clock
    controls: Controls
    faults: Faults
    journal: Journal


class Connection:
    def __init__(
        self,
        *,
        number: int,
        exchange: Exchange,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._number = number
        self._exchange = exchange
        self._reader = reader
        self._writer = writer
        self._peer = str(writer.get_extra_info("peername")[0])

    async def converse(self) -> None:
        """Until either side ends it; the connection is closed whatever happens."""
        try:
            with contextlib.suppress(ConnectionError):  # who leaves early is in the journal
                await self._converse()
        finally:
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()

    async def _converse(self) -> None:
        reception = Reception(self._reader, self._writer)
        ending = Ending.KEEP
        while ending is Ending.KEEP:
            try:
                request = await reception.request()
            except Refused as refusal:
                self._write(Answer(status=refusal.status, headers=(("connection", "close"),)))
                return
            if request is None:
                return
            ending = await self._treat(request)
            if not request.persistent and ending is Ending.KEEP:
                ending = Ending.CLOSE
        if ending is Ending.RESET:
            delivery.reset(self._writer)

    async def _treat(self, request: Request) -> Ending:
        exchange = self._exchange
        if request.target.startswith(controls.PREFIX):
            self._write(exchange.controls.answer(request, peer=self._peer))
            return Ending.KEEP
        account = exchange.api.account_of(request)
        arrival = exchange.journal.arrived(request, connection=self._number, account=account)
        fault = exchange.faults.choose(request, account)
        try:
            if fault is not None:
                return await self._mistreat(request, arrival, fault)
            answer = exchange.api.answer(request)
            arrival.carried_out, arrival.status = answer.deleted, answer.status
            self._write(answer)
            await self._writer.drain()
            return Ending.KEEP
        finally:
            exchange.journal.finished(arrival)

    async def _mistreat(self, request: Request, arrival: Arrival, fault: Fault) -> Ending:
        exchange = self._exchange
        answer = Answer(status=200)
        if fault.carries_out or not fault.replaces:
            answer = exchange.api.answer(request, carry_out=fault.carries_out)
            arrival.carried_out = answer.deleted
            exchange.journal.changed()
        await asyncio.sleep(fault.delay)
        if fault.do is Manner.CLOSE:
            return Ending.CLOSE
        if fault.do is Manner.RESET:
            return Ending.RESET
        if fault.do is Manner.SILENCE:
            while await self._reader.read(_PORTION):
                pass
            return Ending.CLOSE
        sending = Delivery(answer=answer, fault=fault, clock=exchange.clock, writer=self._writer)
        arrival.status = sending.status
        return await sending.send()

    def _write(self, answer: Answer) -> None:
        self._writer.write(delivery.whole(answer, self._exchange.clock.date()))
