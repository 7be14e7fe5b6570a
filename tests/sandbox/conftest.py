from collections.abc import AsyncIterator

import pytest

from sweeper.sandbox.server import Sandbox
from tests.sandbox.rawclient import RawClient


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as running:
        yield running


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[RawClient]:
    async with RawClient(sandbox.port, sandbox.key) as connected:
        yield connected
