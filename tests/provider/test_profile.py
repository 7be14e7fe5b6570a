from dataclasses import FrozenInstanceError
from datetime import timedelta

import pytest

from sweeper.provider.profile import FIREWORKS, OPENAI, PROFILES


def test_profiles_are_found_by_name_and_are_data_only() -> None:
    assert PROFILES == {"fireworks": FIREWORKS, "openai": OPENAI}
    with pytest.raises(FrozenInstanceError):
        FIREWORKS.name = "other"  # type: ignore[misc]  # that it is refused is the point
    with pytest.raises(TypeError):
        PROFILES["other"] = OPENAI  # type: ignore[index]  # that it is refused is the point


def test_only_one_of_them_names_accounts_and_promises_an_end() -> None:
    assert FIREWORKS.names_accounts
    assert FIREWORKS.lifetime == timedelta(days=30)
    assert not OPENAI.names_accounts
    assert OPENAI.lifetime is None
    assert (FIREWORKS.id_length, OPENAI.id_length) == (128, 1024)
