import copy
import pickle

import pytest

from sweeper.domain.secret import Secret

KEY = "fw_canary"


def test_a_secret_shows_its_text_only_when_it_is_revealed() -> None:
    secret = Secret(KEY)

    assert secret.reveal() == KEY
    assert KEY not in repr(secret)
    assert KEY not in str(secret)
    assert KEY not in f"{secret} {secret!r} {[secret]}"


def test_secrets_are_equal_by_their_text() -> None:
    assert Secret(KEY) == Secret(KEY)
    assert Secret(KEY) != Secret("another")
    assert Secret(KEY) != KEY
    assert len({Secret(KEY), Secret(KEY)}) == 1


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_is_neither_pickled_nor_copied(copied: object) -> None:
    assert callable(copied)

    with pytest.raises(TypeError) as refused:
        copied(Secret(KEY))

    assert KEY not in str(refused.value)
