"""A client that sends exactly the bytes it is told and shows exactly the bytes that come."""

import asyncio
import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import jsonschema

_SHAPES = json.loads(Path(__file__).with_name("shapes.json").read_text())


def check(name: str, value: object) -> None:
    """Raise unless the value has the shape of that name in shapes.json."""
    jsonschema.validate(value, {"$ref": f"#/$defs/{name}", **_SHAPES})


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class RawClient:
    """One connection; used as `async with`."""

    def __init__(self, port: int, key: str | None = None) -> None:
        self._port = port
        self._key = key
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    async def leave(self) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    def request(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        key: str | None = None,
        extra: str = "",
    ) -> None:
        payload = b"" if body is None else body if isinstance(body, bytes) else _json(body)
        chosen = self._key if key is None else key
        lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{self._port}"]
        if chosen:
            lines.append(f"Authorization: Bearer {chosen}")
        if body is not None:
            lines.append(f"Content-Length: {len(payload)}")
        self.send(("\r\n".join(lines) + f"\r\n{extra}\r\n").encode() + payload)

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = [line.partition(": ") for line in lines[1:-2]]
        return int(lines[0].split(" ")[1]), {name.lower(): value for name, _, value in pairs}

    async def answer(self) -> Received:
        status, headers = await self.head()
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return Received(status=status, headers=headers, body=body)

    async def ask(self, method: str, target: str, body: object = None, **options: Any) -> Received:
        self.request(method, target, body, **options)
        return await self.answer()

    async def some(self, count: int) -> bytes:
        return await self._reader.readexactly(count)

    async def rest(self) -> bytes:
        """All that comes until the other side closes; a reset raises ConnectionResetError."""
        return await self._reader.read()


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
