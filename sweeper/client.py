"""What an application imports to register the responses it stores, so that they are deleted."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

from sweeper import errors
from sweeper.domain import moment, registration, response
from sweeper.domain.registration import Fault, Skipped
from sweeper.ledger import database, registrations, schema

__all__ = ["Ledger", "StoredResponse"]


class StoredResponse(Protocol):
    """What is read of a response: `openai.types.responses.Response` has it all."""

    @property
    def id(self) -> str: ...

    @property
    def created_at(self) -> float: ...

    @property
    def previous_response_id(self) -> str | None: ...


class Ledger:
    """An open ledger, for registering only. One serves all threads of a process.

    `url` is the ledger's, as in the configuration: `sqlite:////var/lib/sweeper/ledger.db` or
    `postgresql://user@host/db`. Open it after a fork, not before. Raises ConfigurationError for
    another kind of URL, LedgerError where the ledger cannot be reached or does not exist, and
    SchemaMismatch where its schema is not the one of this version.
    """

    def __init__(self, url: str) -> None:
        self._db = database.open_database(url, create=False)
        try:
            schema.check(self._db)
        except BaseException:
            self._db.close()
            raise

    def register(
        self,
        response_id: str,
        created_at: float | str | datetime,
        *,
        account: str,
        labels: Mapping[str, str] | None = None,
        subject: str | None = None,
        previous_response_id: str | None = None,
        store: bool = True,
    ) -> bool:
        """Register one stored response; it is committed when this returns.

        `created_at` is in Unix seconds, an RFC 3339 text with an offset, or an aware datetime.
        With `store=False` nothing was stored, so nothing is registered, and this returns False.
        Registering the same response again is harmless. The ledger may be busy: it is waited for
        up to half a minute.

        Raises InvalidRegistration for values that break the rules and LedgerError where the
        ledger cannot be written to; in both cases nothing was kept.
        """
        now = datetime.now(UTC)
        read = registration.read_line(
            {
                "id": response_id,
                "created_at": (
                    created_at.isoformat() if isinstance(created_at, datetime) else created_at
                ),
                "account": account,
                "labels": labels,
                "subject": subject,
                "previous_response_id": previous_response_id,
                "store": store,
            },
            now=now,
            longest=lambda _: response.LONGEST_ID_ALLOWED,
        )
        if isinstance(read, Skipped):
            return False
        if isinstance(read, Fault):
            raise errors.InvalidRegistration(f"{read.reason}: {read.detail}")
        with self._db.write() as connection:
            registrations.append(connection, [read], moment.to_us(now))
        return True

    def register_response(
        self,
        stored: StoredResponse,
        *,
        account: str,
        labels: Mapping[str, str] | None = None,
        subject: str | None = None,
    ) -> bool:
        """Register a response object as the OpenAI SDK returns it; see `register`."""
        return self.register(
            stored.id,
            stored.created_at,
            account=account,
            labels=labels,
            subject=subject,
            previous_response_id=stored.previous_response_id,
            store=getattr(stored, "store", None) is not False,
        )

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
