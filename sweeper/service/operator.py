"""Who decides: the operating system's user at whose word the command acts."""

import os
import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# What useradd and directories allow; anything else in a record could pass for something it is not.
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,63}\$?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """A person's decision: why, and by whom as records hold it.

    `user` is the real uid's, which the system knows. `sudo_user` is what the environment says of
    who called sudo, and anybody may have set that.
    """

    reason: str
    user: str
    sudo_user: str | None

    @property
    def actor(self) -> dict[str, object]:
        return {"user": self.user, "sudo_user": self.sudo_user}


def who(environ: Mapping[str, str], reason: str) -> Who:
    """Name who runs this process; a text in the environment that is no user name is left out."""
    said = environ.get("SUDO_USER", "")
    sudo_user = said if _NAME.fullmatch(said) else None
    return Who(reason=reason, user=_name(os.getuid()), sudo_user=sudo_user)


def _name(uid: int) -> str:
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
    return name if _NAME.fullmatch(name) else f"uid:{uid}"
