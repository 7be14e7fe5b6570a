"""The schema knows every key, accepts all that is read, and refuses what can be refused by form."""

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sweeper.config import cron, listening, load, model, rate, schema, shapes
from sweeper.domain import duration, endpoint
from tests.config.faults import FAULTS
from tests.docs import pages

SCHEMA = schema.compose()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
BEYOND_A_SCHEMA = {"max_in_flight = 1.0", "max_share_per_sweep = nan"}
"""In JSON 1.0 is a whole number, and nan is nothing."""


def fits(text: str) -> bool:
    return VALIDATOR.is_valid(tomllib.loads(text))


def at(*path: str) -> dict[str, Any]:
    found: Any = SCHEMA
    for part in path:
        found = found["properties"][part] if part != "*" else found["additionalProperties"]
    assert isinstance(found, dict)
    return found


TABLES: dict[type[model.Section], dict[str, Any]] = {
    model.Document: SCHEMA,
    model.LedgerSection: at("ledger"),
    model.IntakeSection: at("intake"),
    model.ScheduleSection: at("schedule"),
    model.GuardsSection: at("guards"),
    model.AccountSection: at("accounts", "*"),
    model.PolicySection: at("policies")["items"],
    model.MatchSection: at("policies")["items"]["properties"]["match"],
    model.AlarmSection: at("alarm"),
    model.HttpSection: at("http"),
    model.LogSection: at("log"),
}


def defaults() -> Iterator[tuple[str, object]]:
    for table in TABLES.values():
        for key, shape in table["properties"].items():
            if "default" in shape:
                yield key, shape["default"]


def test_it_is_a_schema_of_its_dialect() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_every_section_of_the_model_is_looked_at() -> None:
    assert set(TABLES) == set(model.Section.__subclasses__())


@pytest.mark.parametrize("section", TABLES, ids=lambda section: section.__name__)
def test_it_knows_every_key_and_no_other_and_says_what_each_is_for(
    section: type[model.Section],
) -> None:
    table = TABLES[section]
    assert set(table["properties"]) == set(section.model_fields)
    assert table["additionalProperties"] is False
    required = {name for name, field in section.model_fields.items() if field.is_required()}
    assert set(table.get("required", ())) == required
    assert table["description"]
    assert all(shape["description"] for shape in table["properties"].values())


def test_its_defaults_are_those_of_the_example() -> None:
    example = pages.read("config.example.toml")
    shown = dict(re.findall(r"^#([a-z_]+) = (.*)$", example, re.MULTILINE))
    told = dict(defaults())
    assert len(told) == len(list(defaults()))
    assert {key: tomllib.loads(f"v = {shown[key]}")["v"] for key in told} == told
    assert set(shown) - set(told) == {"account_id", "spool", "command", "listen", "base_url"}


def test_a_file_of_nothing_but_defaults_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    lines = []
    for name in ("ledger", "schedule", "guards", "http", "log"):
        lines.append(f"[{name}]")
        for key, shape in at(name)["properties"].items():
            if "default" in shape:
                written = str(shape["default"]).lower()
                quoted = isinstance(shape["default"], str)
                lines.append(f'{key} = "{written}"' if quoted else f"{key} = {written}")
    path.write_text("\n".join(lines))
    explicit = load.load(path, {})
    path.write_text("")
    assert explicit == load.load(path, {})


def test_the_examples_fit() -> None:
    example = pages.read("config.example.toml")
    assert fits("")
    assert fits(example)
    assert fits(re.sub(r"^#(?=[a-z])", "", example, flags=re.MULTILINE))
    assert fits(pages.code(pages.read("README.md"), "toml"))


@pytest.mark.parametrize("text,fault", FAULTS)
def test_what_is_refused_when_read_does_not_fit(text: str, fault: str) -> None:
    assert fits(text) is not BEYOND_A_SCHEMA.isdisjoint(text.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        "[policy]",
        "[audit]",
        "[schedules]",
        '[accounts.a]\nprovider = "openai"\napi_key_env = "A"\napi_key_file = "a"',
        '[accounts.a]\nprovider = "openai"\napi_key = "x"',
        '[accounts.a]\nprovider = "openai"\nbase_url = "http://example.com"',
        '[accounts.a]\nprovider = "openai"\nbase_url = "https://u@example.com"',
        '[accounts.a]\nprovider = "openai"\nbase_url = "https://example.com/v1/"',
        '[ledger]\nurl = "mysql://x"',
        '[ledger]\nurl = "postgresql://u:x@h/d"',
        '[ledger]\nurl = "postgresql://h/d?password=x"',
        '[http]\nlisten = "127.0.0.1"',
    ],
)
def test_faults_of_other_kinds_do_not_fit_either(text: str) -> None:
    assert not fits(text)


@pytest.mark.parametrize(
    "text",
    [
        '[accounts.a]\nprovider = "openai"\nbase_url = "HTTP://127.0.0.1:8000/x/"',
        '[accounts.a]\nprovider = "openai"\nbase_url = "http://[::1]:8000"',
        '[accounts.a]\nprovider = "openai"\nbase_url = "http://LOCALHOST"',
        '[ledger]\nurl = "postgresql://u@h:5432/d?sslmode=require"',
        '[ledger]\nurl = "sqlite:///a.db"',
        '[http]\nlisten = "[::]:8787"\nbehind_proxy = true',
        '[http]\nlisten = "localhost:0"',
        "[guards]\nmax_share_per_sweep = 1",
        '[schedule]\nevery = "PT15M"',
    ],
)
def test_what_is_accepted_when_read_fits(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    load.load(path, {})
    assert fits(text)


def _reads(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError as refused:
        # No pattern can add up.
        return "a hundred years" in str(refused)
    return True


DIGITS = st.text(alphabet="0123456789", max_size=3)
LENGTHS = st.lists(st.tuples(DIGITS, st.sampled_from(["w", "d", "h", "m", "s", " ", "D", "M"])))
LIKE_A_LENGTH = st.builds(
    lambda head, parts: head + "".join(number + unit for number, unit in parts),
    st.sampled_from(["", "", "P", "PT", "P1DT"]),
    LENGTHS,
)


@example("0d")
@example("1d0h")
@example("P0D")
@example("PT0S")
@example("P1DT")
@example("1d ")
@example("01d")
@given(LIKE_A_LENGTH | st.just("forever") | st.text(alphabet="0159wdhmsPTDHMS ", max_size=12))
def test_a_length_of_time_fits_exactly_if_it_can_be_read(text: str) -> None:
    assert (re.search(shapes.AGE["pattern"], text) is not None and len(text) <= 64) == _reads(
        duration.parse, text
    )


@given(st.from_regex(r"[0-9]{0,11}/?(second|minute|hour)?", fullmatch=True))
def test_a_rate_fits_exactly_if_it_can_be_read(text: str) -> None:
    assert (re.search(shapes.RATE["pattern"], text) is not None) == _reads(rate.parse, text)


PARTS = st.sampled_from(["*", "0", "5,10", "1-5", "*/2", "mon", "fri", "mon-fri", "jan", "sun,7"])


@given(st.lists(PARTS, min_size=4, max_size=6).map(" ".join))
def test_every_cron_that_can_be_read_fits(text: str) -> None:
    if _reads(cron.check, text):
        assert re.search(shapes.CRON["pattern"], text)


@given(st.ip_addresses(), st.integers(0, 70_000))
def test_every_address_that_can_be_listened_at_fits_and_open_ones_need_a_proxy(
    address: object, port: int
) -> None:
    text = listening.render(str(address), port)
    if not _reads(listening.parse, text):
        return
    assert fits(f'[http]\nlisten = "{text}"\nbehind_proxy = true')
    assert fits(f'[http]\nlisten = "{text}"') is not listening.is_open(str(address))


URLS = st.from_regex(
    r"(https?|HTTPS)://[A-Za-z0-9.\[\]:-]{1,14}(/[a-z0-9@?#v~]{0,6}){0,3}", fullmatch=True
)


@given(URLS)
def test_every_base_url_that_can_be_read_fits(url: str) -> None:
    if _reads(endpoint.check_base_url, url):
        assert re.search(shapes.BASE_URL["pattern"], url)
