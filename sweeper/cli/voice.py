"""The log of one process, which is kept free of every API key that it reads."""

from typing import TYPE_CHECKING

from sweeper.cli.call import Call

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sweeper.config.settings import Config
    from sweeper.domain.event import Event
    from sweeper.domain.secret import Secret


class Voice:
    """Logs events by the configuration in force; lines name no key that it was told of.

    `config` is that configuration.
    """

    def __init__(self, call: Call, config: "Config", keys: "Iterable[Secret]") -> None:
        self._call = call
        self._known = {key.reveal(): key for key in keys}
        self.follow(config)

    def __call__(self, happened: "Event") -> None:
        self._log(happened)

    def follow(self, config: "Config") -> None:
        from sweeper.telemetry import events, logs

        self.config = config
        self._call.start_logs(config, self._known.values())
        self._log = events.EventLog(logs.logger(), response_ids=config.log.response_ids)

    def redact(self, keys: "Iterable[Secret]") -> None:
        """Take these keys out of every line from now on."""
        new = {key.reveal(): key for key in keys}
        if new.keys() - self._known.keys():
            self._known |= new
            self.follow(self.config)
