"""One response from its claim to what is to be written of it."""

import random
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sweeper.domain import backoff, control, moment, outcome
from sweeper.domain.answer import Answer, AnswerKind
from sweeper.domain.control import Controls
from sweeper.domain.outcome import Facts, Outcome, Settlement
from sweeper.domain.response import State
from sweeper.engine.account import Account
from sweeper.engine.grant import Grant
from sweeper.ledger.claims import Claim

_LOOKS: Final = 20
"""How many responses are looked for before their deletion at most, until one could be read."""
_UNSENT: Final = Settlement(state=State.LIVE)
_UNSENDABLE: Final = Settlement(state=State.QUARANTINED, outcome=Outcome.REJECTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One claim with its settlement. `unsent` says that no DELETE of it reached the wire.

    `verify_status` is the status of the GET that looked, `bracketed` whether controls stood on
    both sides of it.
    """

    claim: Claim
    settlement: Settlement
    at: datetime
    answer: Answer | None = None
    unsent: bool = False
    verify_status: int | None = None
    bracketed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """A response that was not found: what it is worth shows when a control has followed.

    `answer` is the DELETE's, None for a verification; `get` the GET's, None if it was not sent.
    `at` is when the first of them came.
    The moments are seconds of the boot clock: before the first question, after the last answer.
    """

    claim: Claim
    answer: Answer | None
    get: Answer | None
    at: datetime
    before: Controls
    first_at: float
    last_at: float


class Deletion:
    """Sends what one claim asks for and reads the answers by the rules of the domain."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._looks = _LOOKS

    async def work(self, claim: Claim, deadline: float) -> Finished | Absence:
        """Delete or verify; `deadline` is when the claim ends, in seconds of the boot clock."""
        if claim.is_verification:
            return await self._verify(claim, deadline)
        return await self._delete(claim, deadline)

    async def _delete(self, claim: Claim, deadline: float) -> Finished | Absence:
        account = self._account
        if not account.may_ask_for(claim.response_id):
            return self._finished(claim, _UNSENDABLE, unsent=True)
        await self._look_first(claim, deadline)
        grant = Grant(account, deadline)
        answer = await account.delete(claim.response_id, grant)
        if answer is None:
            return self._finished(claim, _UNSENT, unsent=True)
        now = account.watch.clock.wall()
        if answer.kind is AnswerKind.YES:
            account.yes(claim.label_set_id, grant.asked_at, now)
        facts = self._facts(claim)
        # One response that is looked for again and again speaks for a wrong account only once.
        if not claim.missed and outcome.counts_as_not_found(answer, facts, now):
            account.missed()
        settlement = outcome.after_delete(answer, facts, now=now, jitter=random.random())
        if settlement is not None:
            unsent = answer.kind is AnswerKind.NOT_SENT
            return Finished(
                claim=claim, settlement=settlement, at=now, answer=answer, unsent=unsent
            )
        get = await account.get(claim.response_id, claim.label_set_id)
        return Absence(
            claim=claim,
            answer=answer,
            get=get,
            at=now,
            before=grant.before,
            first_at=grant.asked_at,
            last_at=account.now(),
        )

    async def _look_first(self, claim: Claim, deadline: float) -> None:
        """See one response before it goes: where none was ever read, no absence verifies a yes."""
        account = self._account
        if not account.settings.verify or account.get_seen or not self._looks:
            return
        self._looks -= 1
        left = deadline - account.now()
        await account.get(claim.response_id, claim.label_set_id, within=left)

    async def _verify(self, claim: Claim, deadline: float) -> Finished | Absence:
        account = self._account
        if not account.settings.verify:
            return self._finished(claim, outcome.without_verification(self._facts(claim)))
        if not account.may_ask_for(claim.response_id):
            later = self._now() + backoff.delay(claim.failures + 1, random.random())
            later_on = Settlement(state=State.VERIFYING, counted=True, verify_at=later)
            return self._finished(claim, later_on)
        before, asked = account.controls, account.now()
        left = deadline - asked
        get = await account.get(claim.response_id, claim.label_set_id, within=left)
        if get is None:
            return self._finished(claim, Settlement(state=State.VERIFYING, verify_at=self._now()))
        settlement = self._judge_verification(claim, get, bracketed=False)
        if get.kind is AnswerKind.ABSENT and settlement.state is State.VERIFYING:
            return Absence(
                claim=claim,
                answer=None,
                get=get,
                at=self._now(),
                before=before,
                first_at=asked,
                last_at=account.now(),
            )
        return self._finished(claim, settlement, get=get)

    def settle(self, absence: Absence) -> Finished:
        """Judge an absence now that controls have, or have not, followed it."""
        account, claim = self._account, absence.claim
        bracketed = (
            account.stopped is None
            and not account.not_found.tripped
            and control.brackets(
                absence.before, absence.first_at, absence.last_at, account.controls
            )
        )
        if absence.answer is None:
            assert absence.get is not None, "a verification that was not sent is no absence"
            settlement = self._judge_verification(claim, absence.get, bracketed=bracketed)
        else:
            settlement = outcome.settle_absence(
                absence.get,
                self._facts(claim),
                bracketed=bracketed,
                now=self._now(),
                jitter=random.random(),
            )
        return Finished(
            claim=claim,
            settlement=settlement,
            at=absence.at,
            answer=absence.answer,
            verify_status=None if absence.get is None else absence.get.status,
            bracketed=bracketed,
        )

    def _judge_verification(self, claim: Claim, get: Answer, *, bracketed: bool) -> Settlement:
        return outcome.settle_verification(
            get,
            self._facts(claim),
            bracketed=bracketed,
            now=self._now(),
            jitter=random.random(),
        )

    def _finished(
        self,
        claim: Claim,
        settlement: Settlement,
        *,
        get: Answer | None = None,
        unsent: bool = False,
    ) -> Finished:
        return Finished(
            claim=claim,
            settlement=settlement,
            at=self._now(),
            unsent=unsent,
            verify_status=None if get is None else get.status,
        )

    def _facts(self, claim: Claim) -> Facts:
        account = self._account
        return Facts(
            created_at=moment.from_us(claim.created_at),
            touched=bool(claim.touched),
            failures=claim.failures,
            lifetime=account.profile.lifetime,
            verify=account.settings.verify,
            label_set_seen=claim.label_set_id in account.seen,
            yes_at=None if claim.yes_at is None else moment.from_us(claim.yes_at),
            yes_here=claim.yes_key == account.key,
            yes_same_account=account.is_of_this_account(claim.yes_key),
            get_seen=account.get_seen,
        )

    def _now(self) -> datetime:
        return self._account.watch.clock.wall()
