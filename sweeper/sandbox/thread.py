"""The sandbox in a thread and loop of its own, for programs that are not asynchronous."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from sweeper.sandbox.server import Sandbox

_Result = TypeVar("_Result")


class SandboxThread:
    """`with SandboxThread() as sandbox:`, or `start()` and `stop()`; it takes what Sandbox takes.

    The sandbox lives in its own thread, so everything but the properties goes through `call`.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._started: Future[Sandbox] = Future()
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="sandbox", daemon=True)

    def start(self) -> Self:
        """Serving when this returns; raises what kept it from serving."""
        self._thread.start()
        try:
            self._started.result()
        except Exception:
            self._thread.join()
            raise
        return self

    def stop(self) -> None:
        """End all connections; done when this returns. Raises what went wrong meanwhile."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._ended.result()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def sandbox(self) -> Sandbox:
        """To read from; what changes it goes through `call`."""
        return self._started.result()

    @property
    def base_url(self) -> str:
        return self.sandbox.base_url

    @property
    def origin(self) -> str:
        return self.sandbox.origin

    @property
    def port(self) -> int:
        return self.sandbox.port

    @property
    def key(self) -> str:
        return self.sandbox.key

    @property
    def account(self) -> str:
        return self.sandbox.account

    @property
    def accounts(self) -> tuple[str, ...]:
        return self.sandbox.accounts

    def call(self, action: Callable[[Sandbox], _Result]) -> _Result:
        """Run `action(sandbox)` in the sandbox's thread; its result, or what it raised."""
        done: Future[_Result] = Future()

        def run() -> None:
            try:
                done.set_result(action(self.sandbox))
            except BaseException as problem:  # noqa: BLE001 - it is raised where it is waited for
                done.set_exception(problem)

        self._loop.call_soon_threadsafe(run)
        return done.result()

    def wait_until(self, predicate: Callable[[Sandbox], object], *, within: float = 10.0) -> None:
        """As `Sandbox.wait_until`; the predicate runs in the sandbox's thread."""
        waiting = self.sandbox.wait_until(lambda: predicate(self.sandbox), within=within)
        asyncio.run_coroutine_threadsafe(waiting, self._loop).result()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as problem:  # noqa: BLE001 - it is raised where it is waited for
            self._ended.set_exception(problem)
            if not self._started.done():
                self._started.set_exception(problem)
        else:
            self._ended.set_result(None)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        async with Sandbox(**self._settings) as sandbox:
            self._started.set_result(sandbox)
            await self._stopping.wait()
