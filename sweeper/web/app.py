"""The daemon's web application: its probes, and what holds for every answer."""

from email.utils import formatdate
from typing import Final

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sweeper.domain import endpoint
from sweeper.web import probes
from sweeper.web.probes import View

_ALWAYS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_MISDIRECTED: Final = 421


def application(view: View) -> ASGIApp:
    """Answer GET and HEAD of what is known, with headers that let nothing be kept or framed.

    Without a proxy before it, it answers this machine only and to its own name: a page of a
    stranger whose name was made to point here is refused.
    """
    app = Starlette(routes=probes.routes(view))
    app.router.redirect_slashes = False
    return _Hardened(app, own_name_only=not view.behind_proxy)


class _Hardened:
    def __init__(self, app: ASGIApp, *, own_name_only: bool) -> None:
        self._app = app
        self._own_name_only = own_name_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update({**_ALWAYS, "date": formatdate(usegmt=True)})
            await send(message)

        app = self._app
        if self._own_name_only and not _is_own(Headers(scope=scope).get("host", "")):
            app = PlainTextResponse("this is not the host that you asked for\n", _MISDIRECTED)
        await app(scope, receive, hardened)


def _is_own(host: str) -> bool:
    """Whether a Host header names this machine: `localhost`, or an address of its loopback."""
    name, _, port = host.rpartition(":")
    if not name or not port.isdecimal():
        name = host
    return endpoint.is_loopback(name.lower().removeprefix("[").removesuffix("]"))
