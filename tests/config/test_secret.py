"""A key is read strictly, and no fault repeats any part of it."""

import os
import traceback
from pathlib import Path

import pytest

from sweeper import errors
from sweeper.config import secret
from sweeper.config.settings import Account, KeyPlace, KeySource
from sweeper.domain.response import AccountName

KEY = "fw_3Zq8hushhush"


def account(place: KeyPlace, name: str) -> Account:
    return Account(
        name=AccountName("main"),
        provider="fireworks",
        base_url="https://api.fireworks.ai/inference",
        account_id=None,
        rate_per_second=1.0,
        max_in_flight=8,
        verify=True,
        key_source=KeySource(place=place, name=name),
    )


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(0o600)
    return path


def read_file(path: Path, **environ: str) -> str:
    return secret.read_key(account(KeyPlace.FILE, str(path)), environ).reveal()


def refused(source: Account, **environ: str) -> errors.SecretError:
    with pytest.raises(errors.SecretError) as caught:
        secret.read_key(source, environ)
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value.args)
    assert "hush" not in told + str(caught.value.hint)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", " \n", "  "])
def test_a_key_is_stripped_of_one_line_end_and_spaces(key_file: Path, ending: str) -> None:
    key_file.write_bytes(b" " + KEY.encode() + ending.encode())
    assert read_file(key_file) == KEY


@pytest.mark.parametrize(
    "data,reason",
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"   \r\n", "is empty"),
        (KEY.encode() + b"\n\n", "more than one line"),
        (KEY.encode() + b"\nhush\n", "more than one line"),
        (KEY.encode() + b"\rhush", "more than one line"),
        (b"hush hush", "inside"),
        (b"hush\thush", "inside"),
        (b"hush\x00", "inside"),
        (b"hush\x1b[0m", "inside"),
        (b"hush\x7f", "inside"),
        ("hüsh-hush".encode(), "not ASCII"),
        (b"\xff\xfehush", "not ASCII"),
        (b"\xef\xbb\xbfhush", "byte order mark"),
        (b"hush" * 1025, "longer than 4 KiB"),
    ],
)
def test_a_doubtful_key_is_refused_without_being_told(
    key_file: Path, data: bytes, reason: str
) -> None:
    key_file.write_bytes(data)
    error = refused(account(KeyPlace.FILE, str(key_file)))
    assert reason in error.message
    assert error.hint
    assert error.exit_code == 10
    if b"\x00" not in data:
        assert reason in refused(account(KeyPlace.VARIABLE, "K"), K=os.fsdecode(data)).message


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601])
def test_a_file_that_others_may_touch_is_refused(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    error = refused(account(KeyPlace.FILE, str(key_file)))
    assert error.hint == f"run: chmod 600 {key_file}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_refused(key_file: Path) -> None:
    os.chown(key_file, 12345, 12345)
    assert "another user" in refused(account(KeyPlace.FILE, str(key_file))).message


def test_a_link_is_refused_and_the_file_behind_it_never_opened(key_file: Path) -> None:
    link = key_file.with_name("link")
    link.symlink_to(key_file)
    error = refused(account(KeyPlace.FILE, str(link)))
    assert "not a link" in (error.hint or "")


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    assert "is not a file" in refused(account(KeyPlace.FILE, str(pipe))).message
    assert "is not a file" in refused(account(KeyPlace.FILE, str(tmp_path))).message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    error = refused(account(KeyPlace.FILE, str(tmp_path / "none")))
    assert "No such file" in error.message
    assert str(tmp_path / "none") in error.message
    assert "write the key there" in (error.hint or "")


def test_a_variable_is_read_when_it_is_set() -> None:
    source = account(KeyPlace.VARIABLE, "K")
    assert secret.read_key(source, {"K": f"{KEY}\n"}).reveal() == KEY
    assert refused(source).message.endswith("environment variable K is not set")


def test_a_credential_is_read_from_where_systemd_puts_it(key_file: Path) -> None:
    source = account(KeyPlace.CREDENTIAL, "key")
    environ = {"CREDENTIALS_DIRECTORY": str(key_file.parent)}
    assert secret.read_key(source, environ).reveal() == KEY
    key_file.chmod(0o404)
    refused(source, **environ)
    assert "LoadCredential=key:PATH" in (refused(source).hint or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's credentials may be read by their group")
def test_a_credential_of_root_may_be_readable_by_its_group(key_file: Path) -> None:
    key_file.chmod(0o440)
    environ = {"CREDENTIALS_DIRECTORY": str(key_file.parent)}
    assert secret.read_key(account(KeyPlace.CREDENTIAL, "key"), environ).reveal() == KEY
    assert read_file(key_file, **environ) == KEY
    refused(account(KeyPlace.FILE, str(key_file)))


def test_what_was_read_does_not_show_itself(key_file: Path) -> None:
    found = secret.read_key(account(KeyPlace.FILE, str(key_file)), {})
    assert KEY not in repr(found) + str(found) + f"{found}"
