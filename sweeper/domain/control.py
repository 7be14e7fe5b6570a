"""Whether what a key saw before and after a 404 makes that 404 worth believing."""

from dataclasses import dataclass, replace

CONTROL_WINDOW = 600.0
"""Seconds on the boot clock between a 404 and a control that still speaks for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """The newest proofs that one key at one base URL looks at the right account.

    `identity_at` is when the provider last named the pinned account, `sight_at` when the key
    last saw something of the collection, both in seconds of the boot clock. A control that is
    to follow a 404 must have been asked after that 404 came. `pinned` says that the provider
    names accounts, so that sight alone is not enough.
    """

    pinned: bool
    identity_at: float | None = None
    sight_at: float | None = None

    def confirmed(self, identity_at: float) -> "Controls":
        return replace(self, identity_at=identity_at)

    def sighted(self, sight_at: float) -> "Controls":
        return Controls(pinned=self.pinned, identity_at=self.identity_at, sight_at=sight_at)

    def within(self, earliest: float, latest: float) -> bool:
        """Whether every proof that is needed was made in this span, both ends included."""
        return _lies(self.sight_at, earliest, latest) and (
            not self.pinned or _lies(self.identity_at, earliest, latest)
        )

    def after(self, moment: float) -> bool:
        """Whether every proof that is needed is newer than this moment."""
        needed = (self.sight_at, self.identity_at) if self.pinned else (self.sight_at,)
        return all(at is not None and at > moment for at in needed)


def brackets(
    before: Controls, first_absent_at: float, last_absent_at: float, after: Controls
) -> bool:
    """Whether controls stand on both sides of a response's 404s, ten minutes away at most."""
    return (
        before.pinned == after.pinned
        and 0.0 <= last_absent_at - first_absent_at <= CONTROL_WINDOW
        and before.within(first_absent_at - CONTROL_WINDOW, first_absent_at)
        and after.after(last_absent_at)
        and after.within(last_absent_at, last_absent_at + CONTROL_WINDOW)
    )


def _lies(at: float | None, earliest: float, latest: float) -> bool:
    return at is not None and earliest <= at <= latest
