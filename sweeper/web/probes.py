"""Answer whether the daemon is alive, whether it is ready, and with its figures."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sweeper.telemetry import metrics

_OK = 200
_NOT_OK = 503
_STOPPED = "account_stopped:"


class View(Protocol):
    """What the probes ask; `ready` names what is wrong, `metrics` is Prometheus' text.

    `stopped` tells what stops accounts and how much is kept there, as JSON holds it.
    """

    @property
    def behind_proxy(self) -> bool: ...

    @property
    def role(self) -> str: ...

    @property
    def is_stalled(self) -> bool: ...

    async def ready(self) -> Sequence[str]: ...

    @property
    def stopped(self) -> Sequence[Mapping[str, object]]: ...

    async def metrics(self) -> bytes: ...


def routes(view: View) -> Sequence[Route]:
    async def alive(_request: Request) -> Response:
        """Say that the loop turns: whoever restarts what is dead asks this, and no database."""
        stalled = view.is_stalled
        told = {"status": "stalled" if stalled else "ok", "role": view.role}
        return JSONResponse(told, _NOT_OK if stalled else _OK)

    async def ready(_request: Request) -> Response:
        failing = list(await view.ready())
        told: dict[str, object] = {"ready": not failing, "role": view.role, "failing": failing}
        if any(reason.startswith(_STOPPED) for reason in failing):
            told["stopped"] = list(view.stopped)
        return JSONResponse(told, _NOT_OK if failing else _OK)

    async def figures(_request: Request) -> Response:
        return Response(await view.metrics(), media_type=metrics.CONTENT_TYPE)

    return [
        Route("/healthz", alive, methods=["GET"]),
        Route("/readyz", ready, methods=["GET"]),
        Route("/metrics", figures, methods=["GET"]),
    ]
