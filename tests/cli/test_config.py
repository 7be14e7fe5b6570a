"""`config show` tells what is in effect, in words that mean the same when read again."""

import json
from pathlib import Path

import pytest

from sweeper.config import load, schema
from tests.support.command import Run

RICH = """
[ledger]
url = "postgresql://sweeper@db/ledger"
[intake]
spool = "in"
[schedule]
cron = "17 */2 * * mon-fri"
[alarm]
command = ["/bin/page", "it is \\"sweeper\\""]
[http]
listen = "[::1]:8787"
[guards]
max_share_per_sweep = 0.5
max_clock_skew = "90s"
[accounts.main]
provider = "fireworks"
api_key_file = "key"
account_id = "acme"
rate = "90/minute"
[accounts.other]
provider = "openai"
base_url = "https://gateway.example/x"
api_key_env = "OTHER"
rate = "5/second"
verify = "none"
[accounts.third]
provider = "openai"
[[policies]]
name = "Löschen \\"bald\\""
match = { account = "main", labels = { app = "a", "k.e/y" = ["x", "y"] } }
delete_after = "1d12h"
[[policies]]
name = "rest"
delete_after = "forever"
deadline = "2w"
[log]
response_ids = false
"""


@pytest.mark.parametrize("text", [RICH, ""])
def test_what_is_shown_means_the_same_when_it_is_read_again(
    run: Run, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    shown = run("-c", path, "config", "show")
    assert shown.code == 0
    first = load.load(path, {})
    path.write_text(shown.out)
    assert load.load(path, {}) == first


def test_as_json_lengths_are_seconds_and_forever_is_null(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(RICH)
    (told,) = run("-c", path, "config", "show", "--json").lines
    assert told["type"] == "config"
    assert told["path"] == str(path)
    assert told["guards"]["max_clock_skew"] == 90
    assert told["accounts"]["main"]["api_key_file"] == str(tmp_path / "key")
    assert told["accounts"]["main"]["rate"] == "90/minute"
    assert told["accounts"]["other"]["api_key_env"] == "OTHER"
    third = told["accounts"]["third"]
    assert (third["api_key_env"], third["api_key_file"], third["account_id"]) == (None, None, None)
    first, second = told["policies"]
    assert first["delete_after"] == 129_600
    assert first["match"]["labels"]["k.e/y"] == ["x", "y"]
    assert (second["delete_after"], second["deadline"], second["match"]) == (
        None,
        1_209_600,
        {"account": None, "labels": None},
    )
    shown = run("-c", path, "config", "show").out
    assert "# account_id = -\n" in shown
    assert 'rate = "300/minute"\n' in shown


@pytest.mark.parametrize(
    "url,shown",
    [
        ("postgresql://u:hush@db:5432/x", "postgresql://***@db:5432/x"),
        ("postgresql://db/x?password=hush", "postgresql://***@db/x"),
    ],
)
def test_no_secret_is_shown(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch, url: str, shown: str
) -> None:
    monkeypatch.setenv("SWEEPER__LEDGER__URL", url)
    monkeypatch.setenv("NO_SUCH_KEY", "fw_hush")
    for options in ((), ("--json",)):
        result = run("-c", config, "config", "show", *options)
        assert shown in result.out
        assert "hush" not in result.out + result.err


def test_the_schema_is_printed_as_it_is_and_needs_no_configuration(run: Run) -> None:
    shown = run("-c", "/none/such.toml", "config", "schema")
    assert shown.code == 0
    assert json.loads(shown.out) == schema.compose()
    (told,) = run("config", "schema", "--json").lines
    assert told == {"type": "config_schema", "schema": schema.compose()}
