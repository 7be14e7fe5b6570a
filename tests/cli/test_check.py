"""`check` judges the configuration and touches nothing that it names."""

from pathlib import Path

from tests.support.command import Run


def test_a_sound_configuration_is_said_to_be_so(run: Run, config: Path) -> None:
    result = run("-c", config, "check")
    assert (result.code, result.err) == (0, "")
    assert result.out == f"{config} can be used: 1 account, 1 policy\n"


def test_warnings_are_told_and_do_not_fail(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("[guards]\nmax_deletions_per_day = 0\n")
    path.chmod(0o600)
    result = run("-c", path, "check")
    assert result.code == 0
    assert result.out.splitlines() == [
        "warning: accounts: none is configured, so nothing can be deleted",
        "warning: policies: none is given, so nothing is ever due",
        "warning: guards.max_deletions_per_day: 0 blocks deletions",
        f"{path} can be used: 0 accounts, 0 policies",
    ]


def test_as_json_it_is_one_object(run: Run, config: Path) -> None:
    (told,) = run("-c", config, "check", "--json").lines
    assert told == {
        "type": "check",
        "ok": True,
        "path": str(config),
        "accounts": ["main"],
        "policies": ["support"],
        "warnings": [],
    }


def test_neither_key_nor_ledger_is_touched(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        '[ledger]\nurl = "sqlite:///none.db"\n'
        '[accounts.main]\nprovider = "fireworks"\napi_key_file = "none"\n'
    )
    assert run("-c", path, "check").code == 0
    assert not (tmp_path / "none.db").exists()
