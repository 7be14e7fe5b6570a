"""docs/operations.md tells everything that the doctor looks at, and how much room is little."""

from sweeper.service.doctor import premises
from sweeper.service.doctor.findings import Check, Level
from tests.docs import pages

TABLE = pages.section(pages.read("docs/operations.md"), "What the doctor looks at")


def test_every_check_is_explained_and_no_other() -> None:
    assert [cell.strip("`") for cell in pages.first_cells(TABLE)] == [
        *sorted((one.value for one in Check), key=_place)
    ]


def _place(check: str) -> int:
    return TABLE.find(f"| `{check}` |")


def test_the_levels_are_named() -> None:
    commands = pages.own_section(pages.read("docs/commands.md"), "sweeper doctor")
    assert {level.value for level in Level} <= pages.words(commands)


def test_how_much_room_is_little_is_told() -> None:
    for size in (premises.TOO_LITTLE, premises.LITTLE):
        assert f"less than {size >> 20} MiB" in TABLE
