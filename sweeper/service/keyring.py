"""Read API keys again and again while a process runs, and notice where one has been replaced."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from sweeper import errors
from sweeper.config.settings import Account, Config
from sweeper.domain.secret import Secret
from sweeper.service import assembly
from sweeper.service.assembly import Keys


@dataclass(slots=True, kw_only=True)
class Keyring:
    """Reads keys from where the configuration says, on a thread: a file may be far away.

    `redact` hears of every key before anybody uses it.
    """

    environ: Mapping[str, str]
    redact: Callable[[Iterable[Secret]], None]
    _last: dict[str, Secret | errors.SecretError] = field(default_factory=dict, init=False)

    async def read(self, config: Config) -> Keys:
        """Read every account's key, for a sweep."""
        return {one.name: await self.reread(one) for one in config.accounts}

    async def reread(self, account: Account) -> Secret | errors.SecretError:
        """Read one account's key, as it stands now."""
        key = self._last[account.name] = await self._read(account)
        if isinstance(key, Secret):
            self.redact([key])
        return key

    async def notices(self, config: Config, names: Collection[str]) -> bool:
        """Whether one of these accounts has another key by now; each is noticed once."""
        found = False
        for account in config.accounts:
            if account.name in names:
                before, key = self._last.get(account.name), await self._read(account)
                if isinstance(key, Secret) and key != before:
                    self._last[account.name] = key
                    found = True
        return found

    async def _read(self, account: Account) -> Secret | errors.SecretError:
        return await asyncio.to_thread(assembly.read_key, account, self.environ)
