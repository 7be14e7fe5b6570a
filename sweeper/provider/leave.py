"""The leave to write a question, asked for when a connection stands ready for it."""

from typing import Protocol


class Leave(Protocol):
    """Whoever sends decides at the last moment: reaching a server can take long.

    `granted` may wait, for a slot above all; it is asked again where a new connection had to be
    made after the grant. `holds` is asked before a connection is made, for which nothing need be
    done any more where it does not. Between the last yes and the write nothing else happens.
    """

    async def granted(self) -> bool: ...

    def holds(self) -> bool: ...
