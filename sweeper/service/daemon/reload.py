"""Take up a new configuration while the daemon runs, wholly or not at all."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final

from sweeper import errors
from sweeper.config.settings import Config
from sweeper.service import assembly

_FIXED: Final = {"ledger_url": "ledger.url", "listen": "http.listen", "behind_proxy": "http"}
"""What a running daemon cannot change."""
_SECTIONS: Final = {
    "spool": "intake",
    "schedule": "schedule",
    "guards": "guards",
    "max_clock_skew": "guards",
    "trust_local_clock": "guards",
    "accounts": "accounts",
    "policies": "policies",
    "alarm": "alarm",
    "log": "log",
}
_BINDING: Final = frozenset({"guards", "accounts", "policies"})
"""Sections by which a running sweep might delete what must stay from now on."""


def take_up(old: Config, load: Callable[[], Config], environ: Mapping[str, str]) -> Config:
    """Load the configuration anew; raises ConfigurationError unless all of it can be used."""
    new = load()
    faults = [
        f"{name}: cannot change while sweeper runs; restart it"
        for field, name in _FIXED.items()
        if getattr(old, field) != getattr(new, field)
    ]
    keys = assembly.read_keys(new, environ).values()
    faults += [fault.message for fault in keys if isinstance(fault, errors.SecretError)]
    if faults:
        raise errors.ConfigurationError(f"{new.path} cannot be taken up", faults=tuple(faults))
    return new


def changed(old: Config, new: Config) -> tuple[str, ...]:
    """The sections that differ, in the order of their names."""
    differing = {
        _SECTIONS[field.name]
        for field in dataclasses.fields(Config)
        if field.name in _SECTIONS and getattr(old, field.name) != getattr(new, field.name)
    }
    return tuple(sorted(differing))


def binds_a_running_sweep(sections: tuple[str, ...]) -> bool:
    """Whether a sweep that was begun under the old configuration must not go on."""
    return not _BINDING.isdisjoint(sections)
