"""What may go wrong on the way to a provider: names, connections, TLS and the environment."""

import asyncio
import socket
import ssl
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from sweeper.config.settings import Account as AccountConfig
from sweeper.domain import event
from sweeper.domain.secret import Secret
from sweeper.ledger import tables
from sweeper.provider.responses import Responses
from sweeper.sandbox.server import DEFAULT_KEY
from tests.support import command, hostile, registered, truth
from tests.support import rehearsal as rehearsals
from tests.support.command import Run
from tests.support.hostile import Visit
from tests.support.sweeping import DAY, Running, Site

Address = tuple[Any, ...]
Chosen = tuple[AccountConfig, Secret]


@dataclass(slots=True, kw_only=True)
class Relay:
    """A way to the sandbox. From the DELETE number `hole_at` on it swallows what passes.

    It still takes everything, as a network does behind which nobody is there any more: `swallows`
    is "there", what goes to the sandbox, or "back", what comes from it.
    """

    to: int
    hole_at: int | None = None
    swallows: str = "there"
    tls: ssl.SSLContext | None = None
    port: int = 0
    deletes: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to)
        try:
            await asyncio.gather(
                self._pass_on("there", reader, far_writer),
                self._pass_on("back", far_reader, writer),
            )
        except (OSError, asyncio.CancelledError):
            pass  # whoever leaves, leaves
        finally:
            writer.transport.abort()
            far_writer.transport.abort()
            self.tasks.discard(task)

    async def _pass_on(
        self, way: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        while data := await source.read(65_536):
            if way == "there" and data.startswith(b"DELETE"):
                self.deletes += 1
            is_holed = self.hole_at is not None and self.deletes >= self.hole_at
            if not (is_holed and way == self.swallows):
                sink.write(data)
        sink.transport.abort()


@asynccontextmanager
async def relay(site: Site, **given: Any) -> AsyncIterator[Relay]:
    here = Relay(to=site.sandbox.port, **given)
    server = await asyncio.start_server(here.welcome, "127.0.0.1", 0, ssl=here.tls)
    here.port = server.sockets[0].getsockname()[1]
    try:
        yield here
    finally:
        server.close()
        left = list(here.tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await server.wait_closed()


class Names:
    """What names resolve to, in the place of the system's resolver; without `found` nothing is."""

    def __init__(self) -> None:
        self.found: list[Address] | None = None
        self.failure: int | None = None
        self.hangs = threading.Event()
        self.hangs.set()
        self.asked = 0

    def look_up(self, _host: str, port: int, *_given: object, **_named: object) -> list[Any]:
        self.asked += 1
        self.hangs.wait(20)
        if self.failure is not None:
            raise socket.gaierror(self.failure, "what the resolver says")
        found = [("127.0.0.1", port)] if self.found is None else self.found
        return [
            (
                socket.AF_INET6 if ":" in address[0] else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                address,
            )
            for address in found
        ]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """The resolver; every thread that it keeps waiting is let go at the end."""
    made = Names()
    monkeypatch.setattr(socket, "getaddrinfo", made.look_up)
    yield made
    made.hangs.set()


@contextmanager
def nobody_accepts() -> Iterator[Address]:
    """An address of this machine at which no connection is ever made, and none is refused."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield full.getsockname()


@contextmanager
def nobody_there() -> Iterator[Address]:
    """An address of this machine at which connections are refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()


def by_name(site: Site, **given: Any) -> Chosen:
    base_url = site.sandbox.base_url.replace("127.0.0.1", "localhost")
    return site.account("main", base_url=base_url, **given)


def at(site: Site, address: Address, scheme: str = "http", **given: Any) -> Chosen:
    base_url = f"{scheme}://{'localhost' if scheme == 'https' else address[0]}:{address[1]}"
    return site.account("main", base_url=f"{base_url}/inference", **given)


def hasty(running: Running) -> None:
    """The account waits a second for each answer and each connection, not thirty and ten."""
    account = running.accounts["main"]
    account.door = Responses(
        profile=account.profile,
        base_url=account.settings.base_url,
        key=Secret(DEFAULT_KEY),
        total_deadline=timedelta(seconds=1),
    )


def nothing_was_sent(site: Site, names: Sequence[str]) -> None:
    """Of these nothing reached the provider, and nothing is charged to them."""
    rows = site.rows
    asked = set(site.deleted())
    tried = [one for one in registered.rows(site.db, tables.attempts) if not one["unsent"]]
    for name in names:
        row = rows[name]
        assert name not in asked
        assert row["id"] not in {one["response_pk"] for one in tried}
        assert (row["state"], row["outcome"], row["failures"]) == ("live", None, 0)
        assert (row["attempts"], row["touched"], row["next_try_at"]) == (0, 0, None)
        assert [one for one in site.records("deletion.outcome") if one["item"] == row["item"]] == []


def why_stopped(site: Site) -> str:
    """What was told of the last stop: its breaker and what was seen."""
    told = site.told(event.BreakerOpened)[-1]
    return f"{told.breaker}: {told.detail}"


class TestNames:
    @pytest.mark.parametrize("failure", [socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_FAIL])
    async def test_a_name_that_leads_nowhere_sends_nothing_and_charges_nothing(
        self, site: Site, names: Names, failure: int
    ) -> None:
        stored = site.store(3)
        names.failure = failure
        ended = await site.sweep(by_name(site))
        assert str(ended.summary.stop_reason).startswith("account:main:")
        assert "dns" in why_stopped(site)
        assert ended.summary.remaining_by_reason == {"stopped": 3}
        nothing_was_sent(site, stored)
        names.failure = None
        assert (await site.sweep(by_name(site))).summary.complete

    async def test_a_name_that_is_lost_in_the_middle_of_a_sweep_charges_nothing(
        self, site: Site, names: Names
    ) -> None:
        stored = site.store(30)
        site.fault(method="DELETE", then="close")

        def look_up(*given: Any, **named: Any) -> list[Any]:
            names.failure = socket.EAI_AGAIN if len(site.deleted()) >= 5 else None
            return Names.look_up(names, *given, **named)

        socket.getaddrinfo = look_up  # the fixture puts it back
        account = by_name(site, max_in_flight=1, verify=False)
        ended = await site.sweep(account)
        assert ended.summary.outcomes == {"deleted": 5}
        assert ended.summary.remaining_by_reason == {"stopped": 25}
        assert "dns" in why_stopped(site)
        assert names.asked <= 5 + 2 + 10
        nothing_was_sent(site, stored[5:])

    async def test_a_resolver_that_never_answers_is_left_in_time(
        self, site: Site, names: Names
    ) -> None:
        stored = site.store(3)
        names.hangs.clear()
        began = time.monotonic()
        ended = await site.sweep(by_name(site), early=hasty)
        assert time.monotonic() - began < 15
        assert "timeout" in why_stopped(site)
        assert ended.summary.remaining_by_reason == {"stopped": 3}
        nothing_was_sent(site, stored)

    async def test_a_name_that_leads_to_another_server_learns_no_key(
        self, site: Site, names: Names, trusted: trustme.CA
    ) -> None:
        """Whatever address a resolver gives, the certificate must be the name's."""
        stored = site.store(3)
        tls = serving(trusted.issue_cert("other.example"))
        async with hostile.peer(hostile.silent, tls=tls) as elsewhere:
            names.found = [("127.0.0.1", elsewhere.port)]
            base_url = "https://api.provider.example/inference"
            await site.sweep(site.account("main", base_url=base_url))
            assert elsewhere.visits == []
        assert why_stopped(site).startswith("tls:")
        nothing_was_sent(site, stored)

    async def test_without_tls_no_name_leads_off_this_machine(
        self, site: Site, names: Names
    ) -> None:
        """A name for this machine that leads elsewhere would carry the key in clear."""
        stored = site.store(3)
        async with hostile.peer(hostile.silent) as elsewhere:
            # The same machine, by an address that is not one of its own for us.
            names.found = [("::ffff:127.0.0.1", elsewhere.port, 0, 0)]
            await site.sweep(by_name(site))
            await elsewhere.until_all_gone()
            assert len(elsewhere.visits) == 1
            assert [visit.reads for visit in elsewhere.visits] == [[]]
        assert "dns" in why_stopped(site)
        nothing_was_sent(site, stored)


class TestConnections:
    async def test_where_nobody_listens_nothing_is_charged(self, either: Site) -> None:
        stored = either.store(3)
        with nobody_there() as address:
            ended = await either.sweep(at(either, address))
        assert "refused" in why_stopped(either)
        assert ended.summary.remaining_by_reason == {"stopped": 3}
        nothing_was_sent(either, stored)

    async def test_an_unreachable_network_charges_nothing(self, site: Site, names: Names) -> None:
        stored = site.store(3)
        names.found = [("255.255.255.255", 9)]  # to which no connection can be made
        await site.sweep(by_name(site))
        assert "unreachable" in why_stopped(site)
        nothing_was_sent(site, stored)

    async def test_a_connection_that_is_never_made_is_given_up_in_time(
        self, site: Site, names: Names
    ) -> None:
        stored = site.store(3)
        with nobody_accepts() as address:
            names.found = [address]
            began = time.monotonic()
            await site.sweep(by_name(site), early=hasty)
            assert time.monotonic() - began < 15
        assert "timeout" in why_stopped(site)
        nothing_was_sent(site, stored)

    async def test_a_server_that_goes_away_in_the_middle_charges_nothing(self, site: Site) -> None:
        stored = site.store(30)
        site.fault(method="DELETE", then="close")

        def early(_running: Running) -> None:
            asyncio.get_running_loop().create_task(go_away())

        async def go_away() -> None:
            await site.sandbox.wait_until(lambda: len(site.deleted()) >= 5)
            assert site.sandbox._server is not None
            site.sandbox._server.close()

        account = site.account("main", max_in_flight=1, verify=False)
        ended = await site.sweep(account, early=early)
        sent = site.deleted()
        assert ended.summary.outcomes == {"deleted": len(sent)}
        assert ended.summary.remaining_by_reason == {"stopped": 30 - len(sent)}
        assert "refused" in why_stopped(site)
        nothing_was_sent(site, [name for name in stored if name not in sent])

    @pytest.mark.parametrize("way", ["close", "reset"])
    @pytest.mark.parametrize("was_done", [True, False])
    async def test_a_kept_alive_connection_that_drops_as_we_send_is_not_sent_on_again(
        self, site: Site, late: None, way: str, was_done: bool
    ) -> None:
        first, name, *_ = site.store(4)
        site.fault(method="DELETE", id=name, times=1, do=way, carry_out=was_done)
        account = site.account("main", max_in_flight=1)
        await site.sweep(account)
        arrived = {one.target.rpartition("/")[2]: one for one in site.sandbox.journal.deletes()}
        assert arrived[name].connection == arrived[first].connection
        assert site.deleted().count(name) == 1
        row = site.row(name)
        assert (row["state"], row["outcome"], row["touched"]) == ("live", "failing", 1)
        site.mend()
        come_again(site, name)
        assert (await site.sweep(account)).summary.complete
        end = "absent_after_attempt" if was_done else "deleted"
        assert site.states()[name] == ("gone", end)
        assert site.deleted().count(name) == 2

    @pytest.mark.parametrize("swallows", ["there", "back"])
    async def test_a_half_open_connection_is_left_after_the_total_deadline(
        self, site: Site, late: None, swallows: str
    ) -> None:
        stored = site.store(9)
        async with relay(site, hole_at=4, swallows=swallows) as way:
            account = at(site, ("127.0.0.1", way.port), max_in_flight=1, verify=False)
            wide = at(site, ("127.0.0.1", way.port), max_in_flight=8, verify=False)
            way.hole_at = None
            await site.sweep(account, most=3)
            way.hole_at = 4
            ended = await site.sweep(wide, early=hasty)
            assert ended.summary.outcomes == {"failing": 6}
            assert way.deletes == 9
            arrived = set(site.deleted()[3:])
            assert arrived == (set() if swallows == "there" else set(stored[3:]))
            assert {site.row(name)["touched"] for name in stored[3:]} == {1}
            way.hole_at = None
            come_again(site, *stored[3:])
            assert (await site.sweep(wide)).summary.complete
        end = "deleted" if swallows == "there" else "absent_after_attempt"
        assert {site.states()[name] for name in stored[3:]} == {("gone", end)}

    @pytest.mark.parametrize("dead", ["silent", "refusing", "unreachable", "all"])
    async def test_an_address_that_is_dead_is_passed_over_for_the_next(
        self, site: Site, names: Names, dead: str
    ) -> None:
        stored = site.store(12)
        alive = ("127.0.0.1", site.sandbox.port)
        with nobody_accepts() as silent, nobody_there() as refusing:
            unreachable = ("100::1", 9, 0, 0)  # where nothing ever is, by RFC 6666
            each = {"silent": silent, "refusing": refusing, "unreachable": unreachable}
            names.found = [*each.values(), alive] if dead == "all" else [each[dead], alive]
            began = time.monotonic()
            ended = await site.sweep(by_name(site))
            assert time.monotonic() - began < 8
        assert ended.summary.outcomes == {"deleted": len(stored)}
        assert ended.summary.complete


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every back-off takes an hour at least, so that no sweep sees its end."""
    monkeypatch.setattr("sweeper.engine.deletion.random.random", lambda: 1800.0)


def come_again(site: Site, *names: str) -> None:
    with site.db.write() as connection:
        table = tables.responses
        connection.execute(
            table.update().where(table.c.response_id.in_(names)).values(next_try_at=None)
        )


def trust(monkeypatch: pytest.MonkeyPatch, cafile: Path) -> None:
    """Let this file be what the system trusts."""
    built_in = ssl.get_default_verify_paths()
    paths = built_in._replace(openssl_cafile=str(cafile), openssl_capath=str(cafile.parent / "no"))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that the system trusts."""
    made = trustme.CA()
    file = tmp_path / "authorities.pem"
    made.cert_pem.write_to_path(str(file))
    trust(monkeypatch, file)
    return made


def serving(cert: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert.configure_cert(context)
    return context


def badly_serving(ca: trustme.CA, wrong: str) -> ssl.SSLContext:
    now = datetime.now(UTC)
    match wrong:
        case "expired":
            given = ca.issue_cert("localhost", not_before=now - 2 * DAY, not_after=now - DAY)
        case "not yet valid":
            given = ca.issue_cert("localhost", not_before=now + DAY, not_after=now + 2 * DAY)
        case "another name":
            given = ca.issue_cert("localhost.example")
        case _:
            given = trustme.CA().issue_cert("localhost")
    return serving(given)


@contextmanager
def shaking_hands(tls: ssl.SSLContext) -> Iterator[int]:
    """A port where TLS handshakes are made as OpenSSL itself makes them, alerts and all."""

    def serve() -> None:
        while True:
            try:
                met, _ = listener.accept()
            except OSError:
                return
            with met, suppress(OSError), tls.wrap_socket(met, server_side=True) as agreed:
                agreed.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve)
        server.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        server.join()


class TestTls:
    @pytest.mark.parametrize(
        "wrong", ["expired", "not yet valid", "another name", "another authority"]
    )
    async def test_a_server_that_does_not_prove_itself_is_told_nothing(
        self, site: Site, trusted: trustme.CA, wrong: str
    ) -> None:
        """Also where somebody stands between and makes certificates of his own."""
        stored = site.store(3)
        async with relay(site, tls=badly_serving(trusted, wrong)) as way:
            ended = await site.sweep(at(site, ("", way.port), "https"))
        assert str(ended.summary.stop_reason).startswith("account:main:")
        assert why_stopped(site).startswith("tls:")
        assert ended.summary.remaining_by_reason == {"stopped": 3}
        assert site.sandbox.journal.entries == []
        nothing_was_sent(site, stored)

    async def test_an_old_version_is_not_agreed_on(self, site: Site, trusted: trustme.CA) -> None:
        stored = site.store(3)
        tls = serving(trusted.issue_cert("localhost"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            tls.minimum_version = ssl.TLSVersion.TLSv1
            tls.maximum_version = ssl.TLSVersion.TLSv1_1
        tls.set_ciphers("ALL:@SECLEVEL=0")
        with shaking_hands(tls) as port:
            await site.sweep(at(site, ("", port), "https"))
        assert why_stopped(site).startswith("tls:")
        nothing_was_sent(site, stored)

    async def test_a_server_that_speaks_no_tls_is_told_nothing(
        self, site: Site, trusted: trustme.CA
    ) -> None:
        stored = site.store(3)

        async def plain(visit: Visit) -> None:
            visit.say(hostile.answer())
            await visit.until_gone()

        async with hostile.peer(plain) as peer:
            await site.sweep(at(site, ("", peer.port), "https"))
            heard = b"".join(read for visit in peer.visits for read in visit.reads)
            assert DEFAULT_KEY.encode() not in heard
        assert why_stopped(site).startswith("tls:")
        nothing_was_sent(site, stored)

    async def test_a_certificate_that_goes_wrong_in_the_middle_charges_nothing(
        self, site: Site, trusted: trustme.CA
    ) -> None:
        stored = site.store(30)
        site.fault(method="DELETE", then="close")
        tls = serving(trusted.issue_cert("localhost"))

        def early(_running: Running) -> None:
            asyncio.get_running_loop().create_task(change())

        async def change() -> None:
            await site.sandbox.wait_until(lambda: len(site.deleted()) >= 5)
            trustme.CA().issue_cert("localhost").configure_cert(tls)

        async with relay(site, tls=tls) as way:
            account = at(site, ("", way.port), "https", max_in_flight=1, verify=False)
            ended = await site.sweep(account, early=early)
            sent = site.deleted()
            assert ended.summary.outcomes == {"deleted": len(sent)}
            assert 5 <= len(sent) < 30
            assert why_stopped(site).startswith("tls:")
            nothing_was_sent(site, [name for name in stored if name not in sent])
            trusted.issue_cert("localhost").configure_cert(tls)
            assert (await site.sweep(account)).summary.complete

    @pytest.mark.parametrize("wrong", ["none", "empty", "garbage", "closed"])
    def test_without_readable_authorities_nothing_begins_and_it_is_said_why(
        self, run: Run, tmp_path: Path, sqlite_url: str, monkeypatch: Any, wrong: str
    ) -> None:
        file = tmp_path / "authorities.pem"
        match wrong:
            case "none":
                pass
            case "empty":
                file.touch()
            case "garbage":
                file.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            case _:
                file = Path("/proc/self/mem")  # is there, and cannot be read
        trust(monkeypatch, file)
        with rehearsals.rehearsal(tmp_path, sqlite_url) as rehearsal:
            rehearsal.responses(3)
            rehearsal.write(base_url="https://localhost:9")
            for verb in (["sweep", "--json"], ["account", "check", "main"]):
                result = run("-c", rehearsal.config, *verb)
                assert result.code == 10
                assert "certificate authorities" in result.err
                assert "Traceback" not in result.err
            looked = run("-c", rehearsal.config, "doctor")
            assert looked.code == 1
            assert "certificate authorities" in looked.out
            assert rehearsal.requests() == 0
            rehearsal.write(base_url=rehearsal.sandbox.base_url)
            assert truth.violations(rehearsal) == []


class TestTheEnvironment:
    def test_proxies_other_authorities_and_netrc_change_nothing(
        self, tmp_path: Path, sqlite_url: str
    ) -> None:
        netrc = tmp_path / ".netrc"
        netrc.write_text("default login somebody password else\n")
        netrc.chmod(0o600)
        with (
            socket.create_server(("127.0.0.1", 0)) as proxy,
            rehearsals.rehearsal(tmp_path, sqlite_url) as rehearsal,
        ):
            proxy.setblocking(False)
            url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
            rehearsal.responses(5)
            kinds = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "SOCKS_PROXY")
            names = [each for kind in kinds for each in (kind, kind.lower())]
            environ = {
                **dict.fromkeys(names, url),
                "NO_PROXY": "",
                "NETRC": str(netrc),
                "HOME": str(tmp_path),
                "SSL_CERT_FILE": str(tmp_path / "none.pem"),
                "SSL_CERT_DIR": str(tmp_path),
                "SSLKEYLOGFILE": str(tmp_path / "session-secrets"),
                "HTTPX_LOG_LEVEL": "trace",
            }
            asked = ("-c", rehearsal.config, "sweep", "--json")
            done = command.process(*asked, stdin=b"", **environ)
            assert (done.code, done.last["outcomes"]) == (0, {"deleted": 5})
            with pytest.raises(BlockingIOError):
                proxy.accept()
            assert not (tmp_path / "session-secrets").exists()
            accounts = rehearsal.sandbox.call(
                lambda one: {entry.account for entry in one.journal.entries}
            )
            assert accounts == {"acme"}
            assert truth.violations(rehearsal) == []
