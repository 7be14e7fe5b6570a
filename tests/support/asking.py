"""Ask a web server of ours over a real socket, from beside the loop that serves."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from http import client
from queue import Queue
from typing import Any

from starlette.types import ASGIApp

from sweeper.web import server


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One answer; the names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask_now(port: int, path: str, method: str = "GET", **headers: str) -> Told:
    connection = client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return Told(status=answer.status, headers=named, body=body)
    finally:
        connection.close()


async def ask(port: int, path: str, method: str = "GET", **headers: str) -> Told:
    return await asyncio.to_thread(ask_now, port, path, method, **headers)


@asynccontextmanager
async def serving(app: ASGIApp, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Serve an application at any free port, and tell which; everything has ended behind it."""
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(server.serve(app, host, 0, told=port.set_result))
    either: set[asyncio.Future[Any]] = {task, port}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    try:
        yield await port
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@contextmanager
def serving_in_a_thread(app: ASGIApp, host: str = "127.0.0.1") -> Iterator[int]:
    """Serve from a loop of another thread, for tests that are not asynchronous."""
    opened: Queue[int] = Queue()
    over = threading.Event()

    async def serve() -> None:
        async with serving(app, host) as port:
            opened.put(port)
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        yield opened.get(timeout=20)
    finally:
        over.set()
        thread.join()
