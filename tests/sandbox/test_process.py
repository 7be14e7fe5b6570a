import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from sweeper.sandbox import process
from sweeper.sandbox.faults import Fault
from sweeper.sandbox.server import Sandbox
from tests.sandbox.rawclient import RawClient


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_until_a_signal_and_leaves_its_journal(
    tmp_path: Path, number: signal.Signals
) -> None:
    journal = tmp_path / "journal.jsonl"
    ready: asyncio.Future[Sandbox] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        process.serve(
            "127.0.0.1",
            0,
            keys={"fw_a": "alpha"},
            faults=[Fault(method="GET", status=503)],
            journal=journal,
            ready=ready.set_result,
        )
    )
    sandbox = await ready
    async with RawClient(sandbox.port, "fw_a") as client:
        assert (await client.ask("GET", "/verifyApiKey")).status == 503
    os.kill(os.getpid(), number)
    await serving
    (line,) = journal.read_text().splitlines()
    assert json.loads(line)["status"] == 503


async def test_it_needs_no_journal() -> None:
    ready: asyncio.Future[Sandbox] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(process.serve("127.0.0.1", 0, ready=ready.set_result))
    await ready
    os.kill(os.getpid(), signal.SIGTERM)
    await serving
