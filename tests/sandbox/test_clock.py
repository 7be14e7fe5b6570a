from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from sweeper.sandbox.clock import Clock, DateForm, boot_seconds, http_date
from sweeper.sandbox.server import Sandbox
from tests.sandbox.rawclient import RawClient

MOMENT = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


class Ticks:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_it_starts_at_the_wall_clock_and_ticks_by_itself() -> None:
    assert abs(Clock().moment() - datetime.now(UTC)) < timedelta(seconds=2)
    ticks = Ticks()
    clock = Clock(ticks=ticks)
    before = clock.now()
    ticks.seconds += 7
    assert clock.now() == pytest.approx(before + 7)
    assert boot_seconds() > 0


def test_it_is_set_and_moved_both_ways_and_goes_on_ticking() -> None:
    ticks = Ticks()
    clock = Clock(ticks=ticks)
    clock.set(MOMENT)
    clock.advance(timedelta(days=1))
    clock.advance(-3600)
    ticks.seconds += 5
    assert clock.moment() == MOMENT + timedelta(hours=23, seconds=5)


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="with a zone"):
        Clock().set(datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused


@pytest.mark.parametrize(
    "form, text",
    [(DateForm.IMF, "Sun, 06 Nov 1994 08:49:37 GMT"),
     (DateForm.RFC850, "Sunday, 06-Nov-94 08:49:37 GMT"),
     (DateForm.ASCTIME, "Sun Nov  6 08:49:37 1994")],
)  # fmt: skip
def test_dates_are_written_in_the_three_forms(form: DateForm, text: str) -> None:
    assert http_date(MOMENT.timestamp(), form) == text


async def test_the_date_header_follows_the_moved_clock(sandbox: Sandbox, client: RawClient) -> None:
    sandbox.clock.set(MOMENT)
    told = (await client.ask("GET", "/verifyApiKey")).headers["date"]
    assert timedelta() <= parsedate_to_datetime(told) - MOMENT < timedelta(seconds=5)
    sandbox.clock.advance(timedelta(days=365))
    told = (await client.ask("GET", "/verifyApiKey")).headers["date"]
    assert parsedate_to_datetime(told) - MOMENT >= timedelta(days=365)


async def test_the_date_header_can_be_left_out(sandbox: Sandbox, client: RawClient) -> None:
    sandbox.clock.shows_date = False
    assert "date" not in (await client.ask("GET", "/verifyApiKey")).headers
