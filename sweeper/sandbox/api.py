"""The provider's API: from a request to its answer, over the store."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

from sweeper.sandbox import creation, shapes
from sweeper.sandbox.clock import Clock
from sweeper.sandbox.limit import Limit
from sweeper.sandbox.shapes import Answer, Dialect, Mistake
from sweeper.sandbox.store import EVERYTHING, Store, View

_DEFAULT_PAGE = 20
_LARGEST_PAGE = 100
_LIMIT_DIGITS = 9
_YES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it arrived; header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    persistent: bool = True
    """Whether the client lets the connection live on."""

    @property
    def path(self) -> str:
        return unquote(self.target.partition("?")[0])

    @property
    def response_id(self) -> str:
        """The last segment of the path, decoded."""
        return unquote(self.target.partition("?")[0].rpartition("/")[2])


class Api:
    """Answers requests of one dialect; keys name accounts and may change while it runs.

    A key that has a view sees, of its account, only what carries that metadata: the rest is not
    there for it.
    """

    def __init__(
        self,
        *,
        dialect: Dialect,
        keys: dict[str, str],
        views: dict[str, View],
        store: Store,
        clock: Clock,
        limit: Limit,
    ) -> None:
        self.keys = keys
        self._views = views
        self._dialect = dialect
        self._store = store
        self._clock = clock
        self._limit = limit
        self._collection = f"{dialect.base_path}/responses"

    def account_of(self, request: Request) -> str | None:
        """The account whose key the request carries."""
        return self.keys.get(_bearer(request) or "")

    def _view(self, request: Request) -> View:
        return self._views.get(_bearer(request) or "", EVERYTHING)

    def answer(self, request: Request, *, carry_out: bool = True) -> Answer:
        """The answer by the API's rules; with `carry_out=False` it is said but not done."""
        path = request.path
        if path == self._collection:
            allowed = {"POST": self._create}
            if self._dialect.lists:
                allowed = {"GET": self._list, **allowed}
            return self._routed(request, allowed, carry_out=carry_out)
        if path == "/verifyApiKey" and self._dialect.names_account:
            return self._routed(request, {"GET": self._name_account}, carry_out=carry_out)
        rest = path.removeprefix(f"{self._collection}/")
        if rest == path:
            return self._dialect.no_route(request.method, path)
        if rest.endswith("/") or not rest:
            return self._without_slash(request, path)
        if "/" in rest:
            return self._dialect.no_route(request.method, path)
        one = {"GET": self._show, "DELETE": self._delete}
        return self._routed(request, one, carry_out=carry_out)

    def _routed(
        self,
        request: Request,
        allowed: Mapping[str, Callable[[Request, str, bool], Answer]],
        *,
        carry_out: bool,
    ) -> Answer:
        action = allowed.get(request.method)
        if action is None:
            return self._dialect.wrong_method(request.method, ", ".join(allowed))
        account = self.account_of(request)
        if account is None:
            return self._dialect.unauthorized(key_given=_bearer(request) is not None)
        if not self._limit.allows(account):
            return self._dialect.throttled()
        return action(request, account, carry_out)

    def _without_slash(self, request: Request, path: str) -> Answer:
        """A router's kindness that is a trap: without an id, a DELETE is led to the collection."""
        if "/" in path.removeprefix(f"{self._collection}/")[:-1]:
            return self._dialect.no_route(request.method, path)
        host = request.headers.get("host", "")
        target = request.target.partition("?")[0].rstrip("/")
        return Answer(status=307, headers=(("location", f"http://{host}{target}"),))

    def _name_account(self, request: Request, account: str, carry_out: bool) -> Answer:
        del request, carry_out
        developer = ("x-fireworks-developer-email", f"developer@{account}.example")
        return Answer(status=_YES, headers=(("x-fireworks-account-id", account), developer))

    def _create(self, request: Request, account: str, carry_out: bool) -> Answer:
        asked = creation.read(request.body)
        if isinstance(asked, Mistake):
            return self._dialect.invalid(asked)
        now = self._clock.now()
        if asked.previous is not None:
            view = self._view(request)
            if self._store.get(account, asked.previous, now=now, view=view) is None:
                return self._dialect.missing_previous(asked.previous)
        stored = self._store.create(
            account, created_at=now, given=asked.given, keep=asked.store and carry_out
        )
        named = asked.store or self._dialect.names_unstored
        shown = shapes.response_object(stored, named=named, kept=asked.store)
        return shapes.json_answer(_YES, shown)

    def _list(self, request: Request, account: str, carry_out: bool) -> Answer:
        del carry_out
        query = _query(request)
        limit = _page_size(query.get("limit"))
        if isinstance(limit, Mistake):
            return self._dialect.invalid(limit)
        after, before = query.get("after"), query.get("before")
        now, view = self._clock.now(), self._view(request)
        page = self._store.page(
            account, now=now, limit=limit, after=after, before=before, view=view
        )
        if page is None:
            return shapes.refusal(400, {"detail": "the cursor names no response"})
        return shapes.json_answer(_YES, shapes.list_object(page))

    def _show(self, request: Request, account: str, carry_out: bool) -> Answer:
        del carry_out
        wanted, view = request.response_id, self._view(request)
        stored = self._store.get(account, wanted, now=self._clock.now(), view=view)
        if stored is None:
            return self._dialect.missing(wanted)
        return shapes.json_answer(_YES, shapes.response_object(stored))

    def _delete(self, request: Request, account: str, carry_out: bool) -> Answer:
        wanted, now = request.response_id, self._clock.now()
        if self._store.get(account, wanted, now=now, view=self._view(request)) is None:
            return self._dialect.missing(wanted)
        deleted = carry_out and self._store.delete(account, wanted, now=now)
        return Answer(status=_YES, body=self._dialect.deleted(wanted), deleted=deleted)


def _bearer(request: Request) -> str | None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.strip() else None


def _query(request: Request) -> dict[str, str]:
    """As FastAPI reads it: of a name given twice, the last counts."""
    text = request.target.partition("?")[2]
    return {name: values[-1] for name, values in parse_qs(text, keep_blank_values=True).items()}


def _page_size(text: str | None) -> int | Mistake:
    if text is None:
        return _DEFAULT_PAGE
    if text.isascii() and text.isdigit() and len(text) <= _LIMIT_DIGITS:
        limit = int(text)
        if 1 <= limit <= _LARGEST_PAGE:
            return limit
    message = f"limit should be a whole number from 1 to {_LARGEST_PAGE}"
    return Mistake(where=("query", "limit"), sort="value_error", message=message)
