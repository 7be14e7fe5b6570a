"""Forget what functions remember before each test, so that each test really calls them.

A statement that is built once belongs, for whoever counts, to the test that came first: its code,
when changed, would be run by no other. Loaded by pytest in mutation testing only.
"""

import sys

import pytest


@pytest.fixture(autouse=True)
def uncached() -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("sweeper."):
            for each in list(vars(module).values()):
                clear = getattr(each, "cache_clear", None)
                if clear is not None:
                    clear()
