"""Whether a sweep gets on: it beats at each commit, answer, page and wait for a slot."""

import time


class Pulse:
    """Beaten by whoever does a sweep's work; whoever watches asks how long ago that was."""

    def __init__(self) -> None:
        self.beats = 0
        self._last = time.monotonic()

    def beat(self) -> None:
        self.beats += 1
        self._last = time.monotonic()

    def age(self) -> float:
        """Seconds since the last beat."""
        return time.monotonic() - self._last
