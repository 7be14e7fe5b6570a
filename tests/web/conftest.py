"""A daemon's health over a real ledger, as the web application asks it."""

from pathlib import Path

import pytest

from sweeper.config import load
from sweeper.ledger.database import Database
from sweeper.service.daemon.health import Health
from sweeper.service.daemon.vitals import Role, Vitals
from sweeper.telemetry.metrics import Metrics

CONFIG = """
[ledger]
url = "{url}"

[accounts.main]
provider = "fireworks"
api_key_env = "NO_SUCH_KEY"

[[policies]]
name = "support"
match = {{ labels = {{ app = "support" }} }}
delete_after = "14d"
deadline = "1d"
{more}
"""


@pytest.fixture
def vitals() -> Vitals:
    return Vitals(role=Role.ACTIVE)


@pytest.fixture
def health(tmp_path: Path, sqlite_url: str, sqlite_database: Database, vitals: Vitals) -> Health:
    return _health(tmp_path, sqlite_url, sqlite_database, vitals)


@pytest.fixture
def proxied(tmp_path: Path, sqlite_url: str, sqlite_database: Database, vitals: Vitals) -> Health:
    """The same behind a proxy, which knows who may ask."""
    more = '[http]\nlisten = "0.0.0.0:8787"\nbehind_proxy = true'
    return _health(tmp_path, sqlite_url, sqlite_database, vitals, more)


def _health(folder: Path, url: str, db: Database, vitals: Vitals, more: str = "") -> Health:
    path = folder / "config.toml"
    path.write_text(CONFIG.format(url=url, more=more))
    path.chmod(0o600)
    return Health(load.load(path, {}), db, vitals, Metrics("1.2.3"))
