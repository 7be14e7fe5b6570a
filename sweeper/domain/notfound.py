"""The breaker that stops an account when too much of what it looks for is not found."""

from dataclasses import dataclass, replace

_WINDOW = 20
_IN_A_ROW = 5
_OF_WINDOW = 11
_ABSENT, _YES = "A", "Y"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFound:
    """What the latest answers about responses that should exist were, oldest first.

    `recent` holds an `A` for each one that was absent and a `Y` for each yes, at most 20.
    `expect_absent` more may be absent without being counted: a person said so.
    """

    recent: str = ""
    expect_absent: int = 0

    def absent(self) -> "NotFound":
        if self.expect_absent > 0:
            return replace(self, expect_absent=self.expect_absent - 1)
        return self._seen(_ABSENT)

    def yes(self) -> "NotFound":
        return self._seen(_YES)

    @property
    def tripped(self) -> bool:
        """Whether the last 5 were absent, or 11 of the last 20."""
        latest = self.recent[-_WINDOW:]
        return latest.endswith(_ABSENT * _IN_A_ROW) or latest.count(_ABSENT) >= _OF_WINDOW

    def _seen(self, mark: str) -> "NotFound":
        recent = (self.recent + mark)[-_WINDOW:]
        return self if recent == self.recent else replace(self, recent=recent)
