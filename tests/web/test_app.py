"""The probes say what is, to this machine only, and nothing of it is kept, framed or guessed."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import pytest

from sweeper.service.daemon.health import Health
from sweeper.service.daemon.vitals import STALLED_AFTER, Vitals
from sweeper.web import app
from tests.support.asking import ask, serving


def stall(vitals: Vitals) -> None:
    vitals.sweeping = True
    vitals.pulse._last = time.monotonic() - STALLED_AFTER - 1


async def test_a_daemon_whose_loop_turns_is_alive(health: Health) -> None:
    async with serving(app.application(health)) as port:
        told = await ask(port, "/healthz")

    assert (told.status, told.json) == (200, {"status": "ok", "role": "active"})


async def test_a_sweep_that_does_not_get_on_is_no_life(health: Health, vitals: Vitals) -> None:
    stall(vitals)
    async with serving(app.application(health)) as port:
        alive, ready = await ask(port, "/healthz"), await ask(port, "/readyz")

    assert (alive.status, alive.json["status"]) == (503, "stalled")
    assert (ready.status, ready.json["failing"]) == (503, ["sweep_stalled"])


async def test_a_daemon_that_can_do_its_duty_is_ready(health: Health) -> None:
    async with serving(app.application(health)) as port:
        told = await ask(port, "/readyz")

    assert told.status == 200
    assert told.json == {"ready": True, "role": "active", "failing": []}


async def test_what_keeps_it_from_its_duty_is_named(health: Health, vitals: Vitals) -> None:
    vitals.unread_spool_files = 2
    async with serving(app.application(health)) as port:
        told = await ask(port, "/readyz")

    assert told.status == 503
    assert told.json == {"ready": False, "role": "active", "failing": ["spool"]}


async def test_the_figures_are_prometheus_text(health: Health) -> None:
    async with serving(app.application(health)) as port:
        told = await ask(port, "/metrics")

    assert told.status == 200
    assert told.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b'sweeper_build_info{version="1.2.3"} 1.0\n' in told.body


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_a_head_is_answered_like_a_get_without_the_body(health: Health, path: str) -> None:
    async with serving(app.application(health)) as port:
        told = await ask(port, path, "HEAD")

    assert (told.status, told.body) == (200, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_nothing_but_reading_is_allowed(health: Health, path: str, method: str) -> None:
    async with serving(app.application(health)) as port:
        told = await ask(port, path, method)

    assert told.status == 405


@pytest.mark.parametrize(
    "path", ["/", "/healthz/", "/health", "/docs", "/..%2fhealthz", "//readyz"]
)
async def test_there_is_nothing_else(health: Health, path: str) -> None:
    async with serving(app.application(health)) as port:
        told = await ask(port, path)

    assert told.status == 404


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/nothing"])
async def test_no_answer_is_kept_framed_or_guessed(health: Health, path: str) -> None:
    async with serving(app.application(health)) as port:
        told = await ask(port, path)

    assert told.headers["cache-control"] == "no-store"
    assert told.headers["x-content-type-options"] == "nosniff"
    assert told.headers["x-frame-options"] == "DENY"
    assert told.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert told.headers["referrer-policy"] == "no-referrer"
    assert told.headers["date"].endswith(" GMT")
    assert "server" not in told.headers


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8787", "127.0.0.1", "127.0.0.1:1", "127.1.2.3", "[::1]", "[::1]:8787"],
)
async def test_it_answers_to_its_own_names(health: Health, host: str) -> None:
    async with serving(app.application(health)) as port:
        told = await ask(port, "/healthz", Host=host)

    assert told.status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8787", "localhost.evil.example", "10.0.0.1:8787", "",
        "127.0.0.1.evil.example", "localhost:8787:8787", "127.0.0.1@evil.example",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_a_strangers_name_that_points_here_is_refused(
    health: Health, path: str, host: str
) -> None:
    async with serving(app.application(health)) as port:
        told = await ask(port, path, Host=host)

    assert told.status == 421
    assert b"active" not in told.body
    assert b"sweeper" not in told.body
    assert told.headers["cache-control"] == "no-store"


async def test_behind_a_proxy_it_answers_to_every_name(proxied: Health) -> None:
    async with serving(app.application(proxied)) as port:
        told = await ask(port, "/healthz", Host="sweeper.example")

    assert told.status == 200


class _Broken:
    """Something that nobody foresaw is wrong; its text may hold anything."""

    behind_proxy = False
    role = "active"

    @property
    def is_stalled(self) -> bool:
        raise RuntimeError("secret")

    async def ready(self) -> Sequence[str]:
        raise RuntimeError("secret")

    @property
    def stopped(self) -> Sequence[Mapping[str, object]]:
        raise RuntimeError("secret")

    async def metrics(self) -> bytes:
        raise RuntimeError("secret")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_what_nobody_foresaw_is_a_500_that_tells_nothing(path: str) -> None:
    async with serving(app.application(_Broken())) as port:
        told = await ask(port, path)

    assert told.status == 500
    assert b"secret" not in told.body
    assert told.headers["cache-control"] == "no-store"


async def test_many_may_ask_at_once(health: Health) -> None:
    async with serving(app.application(health)) as port:
        paths = ["/healthz", "/readyz", "/metrics"] * 8
        told = await asyncio.gather(*(ask(port, path) for path in paths))

    assert {each.status for each in told} == {200}
