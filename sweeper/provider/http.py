"""The only door to httpx: a transport of our own that never sends twice, and asks through it."""

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import httpx

from sweeper.errors import ConfigurationError, SweeperError
from sweeper.provider import trust
from sweeper.provider.connection import Connection
from sweeper.provider.fault import Fault
from sweeper.provider.leave import Leave
from sweeper.provider.reader import Reader
from sweeper.provider.reply import Reply

TOTAL_DEADLINE = timedelta(seconds=30)
CONNECT_LIMIT = timedelta(seconds=10)
IDLE_LIMIT = timedelta(seconds=15)
"""Shorter than servers keep an idle connection, so that they do not close it as we send."""

_NEXT_ADDRESS_AFTER = 0.25
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[!-~](?:[ -~]*[!-~])?")
_TARGET = re.compile(rb"/[!-~]*")
_OF_BODIES = {b"content-length", b"transfer-encoding", b"expect", b"upgrade"}
_METHODS = ("DELETE", "GET")
_PLAIN_TARGET = re.compile(r"(?:/(?!\.{1,2}(?:[/?]|$))[A-Za-z0-9._~-]+)+(?:\?[a-z]+=[a-z0-9]+)?")
_HEAD_ONLY = "head_only"
_LEAVE = "leave"
_TARGET_OF = "target"
_WHOLE = "whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """No whole answer came; `sent` is false only where certainly nothing was written."""

    sent: bool
    fault: Fault


class Transport(httpx.AsyncBaseTransport):
    """Asks one origin over HTTP/1.1, one question per connection at a time.

    A connection asks for deletions or looks, never both: where a server's answers have slipped
    by one, what was never deleted must not be looked for among the same answers.

    A question is written once. Until then a failure is `httpx.ConnectError` or
    `httpx.ConnectTimeout`: certainly not sent. From then on it is `httpx.RemoteProtocolError`,
    `httpx.ReadError` or `httpx.ReadTimeout`: perhaps carried out. The text of each is one word of
    `Fault`. No redirects, cookies, proxies, environment or decompression. httpx's extension
    `target` is what is asked for, byte by byte, in place of the URL's path; `leave` is asked for
    right before the question is written, and the total deadline runs from then. With the extension
    `head_only` a 2xx is read no further than its headers; the answer's extension `whole` is
    false when the body was not read to its end, and then it is empty.
    """

    def __init__(
        self,
        origin: str,
        *,
        tls: ssl.SSLContext | None = None,
        total: timedelta = TOTAL_DEADLINE,
        connect: timedelta = CONNECT_LIMIT,
        idle: timedelta = IDLE_LIMIT,
    ) -> None:
        url = httpx.URL(origin)
        self._home = _home(url)
        self._host = url.host
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._tls = (tls or trust.system()) if url.scheme == "https" else None
        self._total = total.total_seconds()
        self._connect_limit = connect.total_seconds()
        self._idle_limit = idle.total_seconds()
        self._idle: dict[str, list[Connection]] = {method: [] for method in _METHODS}
        self._alive: set[Connection] = set()
        self._written: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        question = self._question(request)
        reader = Reader(request.method, head_only=_HEAD_ONLY in request.extensions)
        loop = asyncio.get_running_loop()
        idle = self._idle[request.method]
        connection = await self._ready(idle, request.extensions.get(_LEAVE))
        deadline = loop.call_later(self._total, connection.abort, Fault.TIMEOUT)
        try:
            told = await connection.exchange(question, reader)
        except BaseException:
            connection.abort()
            raise
        finally:
            deadline.cancel()
        if isinstance(told, Fault):
            raise _lost(told)
        _give_back(idle, connection)
        return httpx.Response(
            told.status,
            headers=told.headers,
            stream=httpx.ByteStream(told.body),
            extensions={_WHOLE: told.whole},
        )

    def hurry(self, seconds: float) -> None:
        """End the total deadline of every question in so many seconds, where it is later."""
        for connection in self._alive:
            asyncio.get_running_loop().call_later(seconds, connection.abort, Fault.TIMEOUT)

    async def aclose(self) -> None:
        """Drop every connection, those in use as well, and wait until they are gone."""
        for idle in self._idle.values():
            idle.clear()
        gone = [connection.closed for connection in self._alive]
        for connection in list(self._alive):
            connection.abort()
        if gone:
            await asyncio.wait(gone)

    def _question(self, request: httpx.Request) -> bytes:
        """Put the request into bytes; refuse what this transport is not for, unsent."""
        url, headers = request.url, request.headers.raw
        target = request.extensions.get(_TARGET_OF, url.raw_path)
        if _home(url) != self._home:
            raise httpx.UnsupportedProtocol("another origin than this transport's")
        if request.method not in _METHODS or _TARGET.fullmatch(target) is None:
            raise httpx.LocalProtocolError("not a question that this transport may ask")
        if headers != self._written[0]:
            self._written = (headers, _block(headers))
        return b"%b %b HTTP/1.1\r\n%b\r\n" % (request.method.encode(), target, self._written[1])

    async def _ready(self, idle: list[Connection], leave: Leave | None) -> Connection:
        """A connection on which the question may be written now."""
        if leave is not None and not leave.holds():
            raise httpx.ConnectError(Fault.WITHDRAWN)
        connection = self._latest(idle) or await self._connect()
        if not await _is_granted(connection, idle, leave):
            connection = self._quiet(idle) or await self._connect()
            if not await _is_granted(connection, idle, leave):
                raise httpx.ConnectError(Fault.CLOSED)
        return connection

    def _latest(self, idle: list[Connection]) -> Connection | None:
        """The connection that was used last, if that is not too long ago."""
        now = asyncio.get_running_loop().time()
        while idle and now - idle[0].idle_since >= self._idle_limit:
            idle.pop(0).abort()
        return idle.pop() if idle else None

    def _quiet(self, idle: list[Connection]) -> Connection | None:
        """The latest connection on which nothing unasked has come."""
        while (connection := self._latest(idle)) is not None:
            if connection.is_quiet:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(min(self._total, self._connect_limit)):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._alive),
                    self._host,
                    self._port,
                    ssl=self._tls,
                    happy_eyeballs_delay=_NEXT_ADDRESS_AFTER,
                )
        except TimeoutError:
            raise httpx.ConnectTimeout(Fault.TIMEOUT) from None
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(_unreached(error)) from None
        if self._tls is None:
            _check_clear(connection)
        return connection


class Door:
    """One account's way to its provider: what comes back is a value, never an exception."""

    def __init__(
        self,
        *,
        origin: str,
        headers: Mapping[str, str],
        total_deadline: timedelta = TOTAL_DEADLINE,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        check_headers(headers)
        self._root = httpx.URL(origin + "/")
        self._headers = dict(headers)
        self._transport = Transport(origin, tls=tls, total=total_deadline)
        # A request costs more to build than to aim anew, and a URL most of all, so that only the
        # target changes; each serves one question at a time.
        self._spare: dict[str, list[httpx.Request]] = {method: [] for method in _METHODS}

    async def ask(self, method: str, target: str, leave: Leave | None = None) -> Reply | Silence:
        """Send one DELETE, or one GET of which a 2xx is read no further than its headers.

        Where `leave` is refused nothing is sent, and the fault is `withdrawn`.

        Raises:
            SweeperError: a server could read this target in two ways; nothing was sent.

        """
        if _PLAIN_TARGET.fullmatch(target) is None:
            raise SweeperError("an address that is not plain is not sent")
        request = self._request(method)
        request.extensions[_TARGET_OF] = target.encode()
        request.extensions[_LEAVE] = leave
        try:
            response = await self._transport.handle_async_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return Silence(sent=False, fault=Fault(str(error)))
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.ReadTimeout) as error:
            return Silence(sent=True, fault=Fault(str(error)))
        self._spare[method].append(request)
        assert isinstance(response.stream, httpx.ByteStream)
        return Reply(
            status=response.status_code,
            headers=response.headers.raw,
            body=b"".join(response.stream),
            whole=response.extensions[_WHOLE],
        )

    def hurry(self, seconds: float) -> None:
        """End the total deadline of every question in so many seconds, where it is later."""
        self._transport.hurry(seconds)

    async def aclose(self) -> None:
        await self._transport.aclose()

    def _request(self, method: str) -> httpx.Request:
        """One that nobody uses; whoever ignored its target would ask for nothing but the root."""
        if self._spare[method]:
            return self._spare[method].pop()
        extensions = {_HEAD_ONLY: True} if method == "GET" else {}
        return httpx.Request(method, self._root, headers=self._headers, extensions=extensions)


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse what no header can carry, before a library puts it into the text of an error.

    Raises:
        ConfigurationError: names the header, never its value.

    """
    for name, value in headers.items():
        if not value.isascii() or _VALUE.fullmatch(value.encode()) is None:
            raise ConfigurationError(f"what is configured for {name} cannot stand in a header")


def _block(headers: list[tuple[bytes, bytes]]) -> bytes:
    for name, value in headers:
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise httpx.LocalProtocolError("a header that cannot be sent")
        if name.lower() in _OF_BODIES:
            raise httpx.LocalProtocolError("questions have no body here")
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])


async def _is_granted(connection: Connection, idle: list[Connection], leave: Leave | None) -> bool:
    """Ask for the leave to write here; False where the connection came to its end meanwhile."""
    if leave is not None and not await leave.granted():
        _give_back(idle, connection)
        raise httpx.ConnectError(Fault.WITHDRAWN)
    if connection.is_quiet:
        return True
    connection.abort()
    return False


def _give_back(idle: list[Connection], connection: Connection) -> None:
    if connection.is_usable:
        connection.idle_since = asyncio.get_running_loop().time()
        idle.append(connection)


def _check_clear(connection: Connection) -> None:
    """Refuse a connection without TLS that leaves this machine, or on which was spoken already.

    Who answers before being asked answers nobody. Under TLS a server may speak first, of session
    tickets; what else it says then is not told apart from outside.
    """
    if not connection.is_local:
        connection.abort()
        raise httpx.ConnectError(Fault.DNS)
    if not connection.is_quiet:
        connection.abort()
        raise httpx.ConnectError(Fault.PROTOCOL)


def _home(url: httpx.URL) -> tuple[bytes, bytes, int | None]:
    return url.raw_scheme, url.raw_host, url.port


def _unreached(error: OSError | UnicodeError) -> Fault:
    match error:
        case socket.gaierror() | UnicodeError():
            return Fault.DNS
        case ssl.SSLError():
            return Fault.TLS
        case ConnectionRefusedError():
            return Fault.REFUSED
        case _:
            return Fault.UNREACHABLE


def _lost(fault: Fault) -> httpx.TransportError:
    match fault:
        case Fault.TIMEOUT:
            return httpx.ReadTimeout(fault)
        case Fault.RESET:
            return httpx.ReadError(fault)
        case _:
            return httpx.RemoteProtocolError(fault)
