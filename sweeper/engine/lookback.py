"""Make controls follow what was not found, and let none of them grow too old."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from sweeper.engine.account import Account
from sweeper.engine.deletion import Absence, Finished

_AT_ONCE: Final = 50
_LONGEST_WAIT: Final = 5.0
_CONTROL_AGE: Final = 240.0
_KINDS_AT_ONCE: Final = 5

Living = Callable[[int | None], Awaitable[Sequence[tuple[str, int]]]]
"""Reads responses that a working key should see, with their label sets: of one set, or of any."""


class LookBack:
    """Holds what was not found until controls have followed it, and has it judged then."""

    def __init__(
        self, account: Account, settle: Callable[[Absence], Finished], living: Living
    ) -> None:
        self._account = account
        self._settle = settle
        self._living = living
        self._waiting: list[Absence] = []
        self._kinds: set[int] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, absence: Absence) -> None:
        self._waiting.append(absence)

    def is_due(self, *, idle: bool) -> bool:
        """Whether it is time for a control; at once when nothing else is being sent."""
        if not self._waiting:
            return False
        oldest = self._account.now() - self._waiting[0].last_at
        return idle or len(self._waiting) >= _AT_ONCE or oldest > _LONGEST_WAIT

    @property
    def is_stale(self) -> bool:
        """Whether the provider has not said for long whose key this is."""
        at = self._account.controls.identity_at
        return at is not None and self._account.now() - at > _CONTROL_AGE

    async def judged(self) -> list[Finished]:
        """Make a control and judge what waited for it; what the ledger raises loses nothing."""
        waiting, self._waiting = self._waiting, []
        try:
            await self._control(waiting)
        except BaseException:  # cancelled, too
            self._waiting = waiting + self._waiting
            raise
        return [self._settle(one) for one in waiting]

    def given_up(self) -> list[Finished]:
        """Judge what waits without a control."""
        waiting, self._waiting = self._waiting, []
        return [self._settle(one) for one in waiting]

    async def refresh(self) -> None:
        """Have the provider say again whose key this is; with it comes the time, as a `Date`."""
        if self._account.profile.names_accounts:
            await self._account.identify()
        else:
            await self._account.look_at(await self._living(None))

    async def _control(self, waiting: Sequence[Absence]) -> None:
        """Ask for the account's name, and for sight of its responses where none came by itself."""
        account = self._account
        latest = max(one.last_at for one in waiting)
        needs_get = not account.get_seen and any(one.answer is None for one in waiting)
        if account.profile.names_accounts:
            await account.identify()
        if needs_get or not (account.profile.names_accounts or self._is_sighted(latest)):
            await account.look_at(await self._living(None))
        if not self._is_sighted(latest):
            await account.look_at_collection()
        await self._look_at_kinds(waiting)

    async def _look_at_kinds(self, waiting: Sequence[Absence]) -> None:
        """Look for a living response of each label set of which this key has seen none yet.

        Without one, what somebody else deleted of that label set could never be told from what
        the key may not see; nor could what was deleted by another key. Each label set is looked
        at once.
        """
        missing = {one.claim.label_set_id for one in waiting if self._needs_its_kind(one)}
        unseen = sorted(missing - self._account.seen - self._kinds)[:_KINDS_AT_ONCE]
        self._kinds.update(unseen)
        for label_set_id in unseen:
            await self._account.look_at(await self._living(label_set_id))

    def _is_sighted(self, after: float) -> bool:
        at = self._account.controls.sight_at
        return at is not None and at > after

    def _needs_its_kind(self, one: Absence) -> bool:
        """Whether what this key has done itself cannot be why it is absent."""
        if one.answer is None:
            return one.claim.yes_key != self._account.key
        return not one.claim.touched
