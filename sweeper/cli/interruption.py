"""Let Ctrl-C end the reading of a stream, and never the keeping of what was read."""

import signal
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

_Item = TypeVar("_Item")


class Interruptible:
    """`with Interruptible() as ctrl_c:` reads items through `ctrl_c.until(items)`.

    The first Ctrl-C ends them, even while one is waited for; what goes on with those that were
    read is left in peace. A second one interrupts whatever is going on.
    """

    def __init__(self) -> None:
        self.asked = False
        self._reading = False
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def until(self, items: Iterable[_Item]) -> Iterator[_Item]:
        source = iter(items)
        while not self.asked:
            try:
                self._reading = True
                item = next(source)
                self._reading = False
            except (StopIteration, KeyboardInterrupt):
                return
            yield item

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.asked = True
        if self._reading:
            raise KeyboardInterrupt
