"""Read an account's API key, and say what is wrong with one without ever repeating any of it."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sweeper import errors
from sweeper.config.settings import Account, KeyPlace
from sweeper.domain.secret import Secret

_LONGEST: Final = 4096
_PRIVATE: Final = 0o077
# systemd hands a service its credentials owned by root and, by an access list, readable by the
# service's user, which shows as read permission of the group (systemd.exec(5), LoadCredential=).
_PRIVATE_CREDENTIAL: Final = 0o037
_BOM: Final = b"\xef\xbb\xbf"
_ONE_LINE: Final = "write the key there as the provider gave it, on one line, and nothing else"
_READABLE: Final = "write the key there, for the user that runs sweeper to read, or name another"


def read_key(account: Account, environ: Mapping[str, str]) -> Secret:
    """Read the key from where the account says; SecretError tells why it cannot be used."""
    place = f"accounts.{account.name}: the API key in {account.key_source}"
    match account.key_source.place:
        case KeyPlace.FILE:
            data = _file(Path(account.key_source.name), place, environ)
        case KeyPlace.VARIABLE:
            data = _variable(account.key_source.name, place, environ)
        case KeyPlace.CREDENTIAL:
            data = _credential(account.key_source.name, place, environ)
    return Secret(_checked(data, place))


def _variable(name: str, place: str, environ: Mapping[str, str]) -> bytes:
    if name not in environ:
        raise errors.SecretError(f"{place} is not set")
    return environ[name].encode("utf-8", "surrogateescape")


def _credential(name: str, place: str, environ: Mapping[str, str]) -> bytes:
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        raise errors.SecretError(
            f"{place} cannot be read: systemd gave no credentials",
            hint=f"name a file with api_key_file, or run with LoadCredential={name}:PATH",
        )
    return _file(Path(folder) / name, place, environ)


def _file(path: Path, place: str, environ: Mapping[str, str]) -> bytes:
    """Read a file that only we, or root, may read; opened once, so that it cannot be exchanged."""
    try:
        # A pipe must not keep us waiting, hence O_NONBLOCK.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as failure:
        reason = getattr(failure, "strerror", None) or "not a path"
        hint = "name the file itself, not a link to it" if path.is_symlink() else _READABLE
        raise errors.SecretError(f"{place} cannot be read: {reason}", hint=hint) from None
    try:
        _check_private(os.fstat(descriptor), path, place, environ)
        return os.read(descriptor, _LONGEST + 1)
    except OSError as failure:
        raise errors.SecretError(f"{place} cannot be read: {failure.strerror}") from None
    finally:
        os.close(descriptor)


def _check_private(
    status: os.stat_result, path: Path, place: str, environ: Mapping[str, str]
) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise errors.SecretError(f"{place} is not a file")
    if status.st_uid not in (0, os.geteuid()):
        raise errors.SecretError(
            f"{place} belongs to another user",
            hint=f"chown it to the user that runs sweeper: {path}",
        )
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    by_systemd = bool(folder) and path.parent == Path(folder) and status.st_uid == 0
    if status.st_mode & (_PRIVATE_CREDENTIAL if by_systemd else _PRIVATE):
        raise errors.SecretError(
            f"{place} may be read or written by others", hint=f"run: chmod 600 {path}"
        )


def _checked(data: bytes, place: str) -> str:
    if len(data) > _LONGEST:
        raise errors.SecretError(f"{place} is longer than 4 KiB", hint=_ONE_LINE)
    if data.startswith(_BOM):
        raise errors.SecretError(
            f"{place} begins with a byte order mark", hint="save it as UTF-8 without one"
        )
    key = data.removesuffix(b"\n").removesuffix(b"\r").strip(b" ")
    if not key:
        raise errors.SecretError(f"{place} is empty", hint=_ONE_LINE)
    if b"\n" in key or b"\r" in key:
        raise errors.SecretError(f"{place} has more than one line", hint=_ONE_LINE)
    if not key.isascii():
        raise errors.SecretError(f"{place} has characters that are not ASCII", hint=_ONE_LINE)
    text = key.decode("ascii")
    if not all("!" <= character <= "~" for character in text):
        raise errors.SecretError(f"{place} has spaces or control characters inside", hint=_ONE_LINE)
    return text
