"""The account's door: deletes and looks up stored responses, and makes controls."""

import re
import ssl
from dataclasses import replace
from datetime import timedelta
from importlib import metadata

from sweeper.domain.answer import Answer, AnswerKind
from sweeper.domain.secret import Secret
from sweeper.errors import ConfigurationError, SecretError, SweeperError
from sweeper.provider import address, headers, http, judgement
from sweeper.provider.judgement import Asked
from sweeper.provider.leave import Leave
from sweeper.provider.profile import Profile

_KEY = re.compile("[!-~]{1,4096}")


class Responses:
    """The stored responses of one account.

    Every method sends at most one request and returns an `Answer`, whatever happens on the way;
    it raises only when it refuses to send. `leave` is asked for right before the request is
    written; where it is refused, the answer is not sent, with the fault `withdrawn`.
    `total_deadline` bounds each call as a whole, from that moment.

    Raises:
        ConfigurationError: the base URL, the key or the account id cannot be used.

    """

    def __init__(
        self,
        *,
        profile: Profile,
        base_url: str,
        key: Secret,
        account_id: str | None = None,
        total_deadline: timedelta = http.TOTAL_DEADLINE,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        at = address.split(base_url)
        self._profile = profile
        self._key = key
        self._collection = at.path + profile.responses_path
        self._sendable = re.compile(f"[A-Za-z0-9_-]{{1,{profile.id_length}}}")
        self._door = http.Door(
            origin=at.origin,
            headers=_headers(profile, key, account_id),
            total_deadline=total_deadline,
            tls=tls,
        )

    async def delete(self, response_id: str, leave: Leave | None = None) -> Answer:
        """Ask for the deletion of one response, once.

        Raises:
            SweeperError: this id may not be sent.

        """
        return await self._ask(Asked.DELETE, self._path_of(response_id), leave)

    async def get(self, response_id: str, leave: Leave | None = None) -> Answer:
        """Look whether one response can be read; its content is not.

        Raises:
            SweeperError: this id may not be sent.

        """
        return await self._ask(Asked.GET, self._path_of(response_id), leave)

    async def account(self, leave: Leave | None = None) -> Answer:
        """Ask which account the key belongs to.

        Raises:
            SweeperError: this provider does not tell.

        """
        if self._profile.account_path is None:
            raise SweeperError(f"{self._profile.name} names no account")
        return await self._ask(Asked.ACCOUNT, self._profile.account_path, leave)

    async def collection(self, leave: Leave | None = None) -> Answer:
        """Look whether the list of responses answers; nothing of it is read."""
        return await self._ask(Asked.LIST, f"{self._collection}?limit=1", leave)

    def hurry(self, seconds: float) -> None:
        """End the total deadline of every call in flight in so many seconds, where it is later."""
        self._door.hurry(seconds)

    async def aclose(self) -> None:
        """Drop every connection; a call in flight comes back as lost."""
        await self._door.aclose()

    def _path_of(self, response_id: str) -> str:
        if self._sendable.fullmatch(response_id) is None:
            raise SweeperError(f"{response_id[:200]!a} is not a response id that may be sent")
        return f"{self._collection}/{response_id}"

    async def _ask(self, asked: Asked, target: str, leave: Leave | None) -> Answer:
        told = await self._door.ask("DELETE" if asked is Asked.DELETE else "GET", target, leave)
        if isinstance(told, http.Silence):
            kind = AnswerKind.LOST if told.sent else AnswerKind.NOT_SENT
            return Answer(kind=kind, fault=told.fault.value)
        return self._without_key(judgement.judge(told, asked=asked, profile=self._profile))

    def _without_key(self, answer: Answer) -> Answer:
        """The answer without a name in which the server says our own key back to us."""
        if self._key.reveal() in f"{answer.request_id} {answer.account_id}":
            return replace(answer, request_id=None, account_id=None)
        return answer


def check_base_url(url: str) -> None:
    """Make sure that this may be the base URL of an account.

    Raises:
        ConfigurationError: it may not; the message never repeats the URL, which may hold a secret.

    """
    address.split(url)


def _headers(profile: Profile, key: Secret, account_id: str | None) -> dict[str, str]:
    if _KEY.fullmatch(key.reveal()) is None:
        raise SecretError("an API key must be printable ASCII without blanks")
    sent = {
        "Authorization": f"Bearer {key.reveal()}",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": f"sweeper/{_version()}",
    }
    if account_id is not None and profile.account_header is not None:
        if not headers.is_account_id(account_id):
            raise ConfigurationError("an account id must be letters, digits, '.', '_' and '-'")
        sent[profile.account_header] = account_id
    return sent


def _version() -> str:
    try:
        return metadata.version("sweeper")
    except metadata.PackageNotFoundError:  # run from a checkout that nobody installed
        return "source"
