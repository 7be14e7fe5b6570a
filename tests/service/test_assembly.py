"""What is built is what was configured, and nothing is left open when it cannot be built."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeper import errors
from sweeper.config import load
from sweeper.config.settings import Config
from sweeper.service import assembly
from sweeper.service.assembly import Workshop
from tests.support import rehearsal as rehearsals
from tests.support.rehearsal import KEY, OTHER_KEY, Rehearsal


@pytest.fixture
def rehearsal(tmp_path: Path, sqlite_url: str) -> Iterator[Rehearsal]:
    with rehearsals.rehearsal(tmp_path, sqlite_url) as made:
        yield made


def loaded(rehearsal: Rehearsal) -> Config:
    return load.load(rehearsal.config, {})


def test_a_ledger_is_made_with_its_schema_by_who_says_so(rehearsal: Rehearsal) -> None:
    rehearsal.write(url=f"sqlite:///{rehearsal.folder}/fresh.db")
    config = loaded(rehearsal)
    with pytest.raises(errors.LedgerError, match="there is no ledger at"):
        assembly.open_ledger(config)
    assert not (rehearsal.folder / "fresh.db").exists()
    for _ in range(2):
        assembly.make_ledger(config)
    assembly.open_ledger(config).close()
    assert (rehearsal.folder / "fresh.db").stat().st_mode & 0o777 == 0o600


def test_a_ledger_that_is_refused_is_not_left_open(rehearsal: Rehearsal) -> None:
    (rehearsal.folder / "ledger.db").write_bytes(b"junk" * 2000)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(errors.LedgerError):
        assembly.open_ledger(loaded(rehearsal))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_keys_are_read_and_their_faults_are_told_together(rehearsal: Rehearsal) -> None:
    def read(environ: dict[str, str]) -> list[str]:
        keys = assembly.read_keys(loaded(rehearsal), environ)
        return [key.reveal() for key in assembly.usable(keys)]

    assert read({}) == [KEY]
    rehearsal.write('[accounts.b]\nprovider = "openai"\napi_key_env = "B"\n')
    assert read({"B": OTHER_KEY}) == [KEY, OTHER_KEY]
    assert read({}) == [KEY]
    rehearsal.key_file.unlink()
    assert read({"B": OTHER_KEY}) == [OTHER_KEY]
    with pytest.raises(errors.SecretError, match="2 API keys cannot be used") as told:
        read({})
    assert len(told.value.faults) == 2


def test_a_scope_knows_the_policies_and_the_accounts(rehearsal: Rehearsal) -> None:
    config = loaded(rehearsal)
    scope = assembly.scope(config, only="support", most=3)
    assert (scope.only, scope.most, scope.accounts) == ("support", 3, frozenset({"main"}))
    with pytest.raises(errors.UsageError, match="no policy is called 'x'"):
        assembly.scope(config, only="x")


async def test_an_account_knows_what_its_key_has_seen_and_no_other_key(
    rehearsal: Rehearsal,
) -> None:
    config = loaded(rehearsal)
    with rehearsal.database() as db:
        shop = Workshop(db=db, watch=assembly.watch(config), emit=print)
        keys = assembly.read_keys(config, {})
        one = assembly.open_account(shop, config.accounts[0], keys["main"])
        await one.aclose()
        rehearsal.use_key(OTHER_KEY)
        other = assembly.open_account(
            shop, config.accounts[0], assembly.read_keys(config, {})["main"]
        )
        await other.aclose()
    assert one.row.id == other.row.id
    assert one.key_fingerprint != other.key_fingerprint
    assert KEY not in one.key
    assert one.key.endswith(f"@{rehearsal.sandbox.base_url}")
