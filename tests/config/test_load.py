"""The file, the variables over it, and every fault at once."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from sweeper import errors
from sweeper.config import load
from sweeper.config.settings import Config, KeyPlace, KeySource, Listen, LogFormat
from sweeper.domain.policy import Unit
from sweeper.domain.schedule import Schedule
from tests.config.faults import FAULTS, account

MINIMAL = """
[accounts.main]
provider = "fireworks"
api_key_env = "KEY"

[[policies]]
name = "all"
delete_after = "30d"
"""

Write = Callable[..., Config]


@pytest.fixture
def read(tmp_path: Path) -> Write:
    def write(text: str, **environ: str) -> Config:
        path = tmp_path / "config.toml"
        path.write_text(text)
        path.chmod(0o600)
        return load.load(path, environ)

    return write


def faults(read: Write, text: str, **environ: str) -> tuple[str, ...]:
    with pytest.raises(errors.ConfigurationError) as caught:
        read(text, **environ)
    assert caught.value.exit_code == 10
    return caught.value.faults


def test_the_smallest_configuration_gets_every_default(read: Write) -> None:
    config = read(MINIMAL)
    assert config.ledger_url == "sqlite:////var/lib/sweeper/ledger.db"
    assert config.guards.max_deletions_per_sweep == 10_000
    assert config.guards.max_share_per_sweep == 0.25
    assert config.guards.max_deletions_per_day == 100_000
    assert config.max_clock_skew == timedelta(minutes=2)
    assert config.trust_local_clock is False
    assert config.schedule == Schedule(every=timedelta(minutes=15))
    assert (config.spool, config.alarm, config.listen) == (None, None, None)
    assert config.behind_proxy is False
    main = config.account("main")
    assert main is not None
    assert main.base_url == "https://api.fireworks.ai/inference"
    assert (main.rate_per_second, main.max_in_flight, main.verify) == (1.0, 8, True)
    assert main.account_id is None
    assert main.key_source == KeySource(place=KeyPlace.VARIABLE, name="KEY")
    only = config.policies[0]
    assert (only.name, only.unit) == ("all", Unit.RESPONSE)
    assert (only.delete_after, only.deadline) == (timedelta(days=30), timedelta(hours=24))
    assert only.match.accounts is None
    assert not only.match.labels
    assert config.log.format is LogFormat.AUTO
    assert config.log.response_ids is True
    assert config.warnings == ()
    assert config.account("other") is None


def test_what_is_given_is_taken(read: Write) -> None:
    config = read(
        """
        [ledger]
        url = "postgresql://sweeper@db/ledger"
        [intake]
        spool = "/var/spool/sweeper/"
        [schedule]
        cron = " 17  */2 * * MON-fri"
        [alarm]
        command = ["/bin/sh", "it is", "sweeper"]
        [http]
        listen = "[::]:0"
        behind_proxy = true
        [guards]
        max_deletions_per_sweep = 1
        max_share_per_sweep = 1
        max_deletions_per_day = 2
        max_clock_skew = "30s"
        trust_local_clock = true
        [accounts.other]
        provider = "openai"
        base_url = "HTTP://127.0.0.1:8000/x/"
        account_id = "acme"
        rate = "5/second"
        max_in_flight = 1
        verify = "none"
        [[policies]]
        name = "a"
        match = { account = ["other"], labels = { app = "support", env = ["prod", "dev"] } }
        delete_after = "forever"
        unit = "response"
        deadline = "1h"
        [log]
        format = "json"
        response_ids = false
        """,
        CREDENTIALS_DIRECTORY="/run/credentials/x",
    )
    assert config.ledger_url == "postgresql://sweeper@db/ledger"
    assert config.spool == Path("/var/spool/sweeper")
    assert config.schedule == Schedule(cron="17 */2 * * mon-fri")
    assert config.alarm == ("/bin/sh", "it is", "sweeper")
    assert (config.listen, config.behind_proxy) == (Listen(host="::", port=0), True)
    assert config.guards.max_share_per_sweep == 1.0
    assert config.max_clock_skew == timedelta(seconds=30)
    assert config.trust_local_clock is True
    other = config.accounts[0]
    assert other.base_url == "http://127.0.0.1:8000/x"
    assert (other.rate_per_second, other.max_in_flight, other.verify) == (5.0, 1, False)
    assert other.account_id == "acme"
    assert other.key_source == KeySource(place=KeyPlace.CREDENTIAL, name="other-api-key")
    match = config.policies[0].match
    assert match.accounts == frozenset({"other"})
    assert dict(match.labels) == {"app": {"support"}, "env": {"prod", "dev"}}
    assert config.policies[0].delete_after is None
    assert config.log.format is LogFormat.JSON
    assert config.log.response_ids is False
    assert config.warnings == ()


def test_all_faults_are_told_at_once_each_with_its_path(read: Write) -> None:
    found = faults(
        read,
        """
        [ledger]
        url = "mysql://x"
        [guards]
        max_deletions_per_sweep = true
        max_share_per_sweep = 1.5
        max_deletion_per_day = 5
        max_clock_skew = 5
        [audit]
        origin = "a"
        [schedule]
        every = "15m"
        cron = "0 * * * *"
        [alarm]
        command = []
        [http]
        listen = "0.0.0.0:8787"
        [accounts.main]
        provider = "fireworks"
        rate = "0/minute"
        api_key = "fw_hush"
        api_key_env = "A"
        api_key_file = "b"
        [[policies]]
        name = "a"
        delete_after = "1 month"
        [[policies]]
        name = "a"
        delete_after = 14
        unit = "conversation"
        """,
    )
    told = {fault.partition(": ")[0]: fault.partition(": ")[2] for fault in found}
    assert set(told) == {
        "ledger.url",
        "guards.max_deletions_per_sweep",
        "guards.max_share_per_sweep",
        "guards.max_deletion_per_day",
        "guards.max_clock_skew",
        "audit",
        "schedule",
        "alarm.command",
        "http.listen",
        "accounts.main.rate",
        "accounts.main.api_key",
        "accounts.main",
        "policies.0.delete_after",
        "policies.1.name",
        "policies.1.delete_after",
        "policies.1.unit",
    }
    assert told["guards.max_deletion_per_day"].endswith("did you mean max_deletions_per_day?")
    assert "months differ in length" in told["policies.0.delete_after"]
    assert "in quotes" in told["policies.1.delete_after"]
    assert "60/minute" in told["accounts.main.rate"]
    assert "api_key_file" in told["accounts.main.api_key"]
    assert "hush" not in "".join(found)


@pytest.mark.parametrize("name", ["policy", "audit"])
def test_a_section_that_is_not_built_is_refused_by_name(read: Write, name: str) -> None:
    (fault,) = faults(read, f"[{name}]\n")
    assert fault == f"{name}: is not built yet in this version of sweeper; leave it out"


def test_an_unknown_section_is_no_section_that_is_not_built(read: Write) -> None:
    (fault,) = faults(read, "[store]\n")
    known = "accounts, alarm, guards, http, intake, ledger, log, policies, schedule"
    assert fault == f"store: unknown key; known here: {known}"
    assert faults(read, "[schedules]\n") == ("schedules: unknown key; did you mean schedule?",)
    assert faults(read, "[guard]\n") == ("guard: unknown key; did you mean guards?",)


@pytest.mark.parametrize("text,fault", FAULTS)
def test_a_fault_says_what_would_be_right(read: Write, text: str, fault: str) -> None:
    (found,) = faults(read, text)
    assert found.startswith(fault)
    assert "hush" not in found


@pytest.mark.parametrize("url", ["postgresql://u:hush@h/d", "postgresql://h/d?password=hush"])
def test_a_password_never_stands_in_the_file(read: Write, url: str) -> None:
    (fault,) = faults(read, f'[ledger]\nurl = "{url}"')
    assert fault.startswith("ledger.url: secrets never stand in the file")
    assert "hush" not in fault
    assert read("", SWEEPER__LEDGER__URL=url).ledger_url == url


def test_a_url_that_cannot_be_taken_apart_is_taken_for_one_with_a_password() -> None:
    assert load.has_password("postgresql://[::1/d")


@pytest.mark.parametrize(
    "first,second",
    [
        ('api_key_env = "A"', 'api_key_env = "A"'),
        (
            'api_key_file = "a"',
            'api_key_file = "a"\nbase_url = "https://API.fireworks.ai/inference"',
        ),
        ('account_id = "acme"\napi_key_env = "A"', 'account_id = "acme"\napi_key_env = "B"'),
        ('account_id = "acme"\napi_key_env = "A"', 'api_key_env = "A"'),
    ],
)
def test_one_account_under_two_names_is_a_fault(read: Write, first: str, second: str) -> None:
    table = '[accounts.{}]\nprovider = "fireworks"\n{}\n'
    (fault,) = faults(read, table.format("one", first) + table.format("two", second))
    assert fault.startswith("accounts.two: is the same account as accounts.one")


@pytest.mark.parametrize(
    "first,second",
    [
        ('api_key_env = "A"', 'api_key_env = "B"'),
        ('api_key_env = "A"', 'api_key_env = "A"\nbase_url = "https://other.example"'),
        ('api_key_env = "A"\naccount_id = "a"', 'api_key_env = "A"\naccount_id = "b"'),
        ('api_key_env = "A"', 'api_key_file = "A"'),
        ("", ""),
    ],
)
def test_two_accounts_may_be_told_apart_by_any_part(read: Write, first: str, second: str) -> None:
    table = '[accounts.{}]\nprovider = "fireworks"\n{}\n'
    config = read(table.format("one", first) + table.format("two", second))
    assert [account.name for account in config.accounts] == ["one", "two"]


def test_accounts_that_are_faulty_themselves_are_not_compared(read: Write) -> None:
    table = '[accounts.{}]\nprovider = "fireworks"\nbase_url = 7\napi_key_env = "A"\n'
    found = faults(read, table.format("one") + table.format("two"))
    assert [fault.partition(":")[0] for fault in found] == [
        "accounts.one.base_url",
        "accounts.two.base_url",
    ]


def test_paths_count_from_the_files_own_folder(read: Write, tmp_path: Path) -> None:
    config = read(
        '[ledger]\nurl = "sqlite:///a.db"\n[intake]\nspool = "in/"\n'
        + account('api_key_file = "key"')
    )
    assert config.spool == tmp_path / "in"
    assert config.ledger_url == f"sqlite:///{tmp_path}/a.db"
    assert config.accounts[0].key_source == KeySource(
        place=KeyPlace.FILE, name=str(tmp_path / "key")
    )


def test_broken_toml_is_told_with_its_line(read: Write) -> None:
    (fault,) = faults(read, '[ledger]\nurl = "a\n')
    assert "line 2" in fault


def test_a_file_that_is_no_text_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"[log]\n# \xff\n")
    with pytest.raises(errors.ConfigurationError) as caught:
        load.load(path, {})
    assert caught.value.faults == ("line 2: is not UTF-8 text",)


def test_a_file_that_is_nested_beyond_reason_is_refused(read: Write) -> None:
    assert faults(read, "a = " + "[" * 100_000) == ("is nested too deeply",)


def test_a_number_beyond_reason_is_refused(read: Write) -> None:
    assert faults(read, "a = " + "9" * 5_000) == ("holds a number that is too long",)


def test_a_file_beyond_a_mebibyte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(errors.ConfigurationError, match="larger than 1 MiB"):
        load.load(path, {})


def test_a_missing_file_is_named_with_how_to_name_another(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"none\.toml cannot be read") as caught:
        load.load(tmp_path / "none.toml", {})
    assert "SWEEPER_CONFIG" in (caught.value.hint or "")


def test_the_file_is_the_one_given_then_the_variables_then_the_usual_one() -> None:
    environ = {"SWEEPER_CONFIG": "/b.toml"}
    assert load.find(Path("/a.toml"), environ) == Path("/a.toml")
    assert load.find(None, environ) == Path("/b.toml")
    assert load.find(None, {"SWEEPER_CONFIG": ""}) == Path("/etc/sweeper/config.toml")


def test_a_file_that_a_group_may_write_is_warned_of(read: Write, tmp_path: Path) -> None:
    read(MINIMAL)
    path = tmp_path / "config.toml"
    path.chmod(0o660)
    assert any("others may write" in warning for warning in load.load(path, {}).warnings)
