"""Take in one file of the spool, from wherever an earlier try left it."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Final

from sweeper.ledger import spool
from sweeper.ledger.spool import Overtaken, Progress, Reject
from sweeper.service import lines
from sweeper.service.intake import Batch, Desk, Tally
from sweeper.service.lines import JsonLines
from sweeper.service.spool import folder as spool_folder
from sweeper.service.spool.folder import Folder, Unfit

if TYPE_CHECKING:
    from sqlalchemy import Connection

_BATCH_BYTES: Final = 4 << 20
"""Bytes in one transaction, whatever the number of lines: they are held in memory."""
_PAGE: Final = 1_000


class Doubted(Exception):
    """The clock is known to be wrong, so that no line can be judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What it takes to take in one file that is open; `got_on` is called after each step."""

    desk: Desk
    folder: Folder
    spool_id: str
    stream: BinaryIO
    batch: int
    got_on: Callable[[], None]

    def run(self, at: Progress) -> Progress:
        """Register what is left of the file, write what was rejected, and move it to `done/`.

        Raises Doubted, Unfit, Overtaken, OSError and LedgerError: the file then stays, and the
        next try goes on from the last transaction.
        """
        self.stream.seek(at.position)
        reader = JsonLines(self.stream, position=at.position, number=at.lines)
        while at.position < at.file.size:
            at = self._register(reader, at)
            self.got_on()
        target = self._reject(at) if at.tally.get("rejected") else self.folder.target(at.file.name)
        self.folder.move(at.file, target)
        return at

    def _register(self, reader: JsonLines, before: Progress) -> Progress:
        """Register the next lines, in one transaction with how far the file has come."""
        if self.desk.doubt() is not None:
            raise Doubted
        page = reader.page(lines=self.batch, size=_BATCH_BYTES)
        has_come_on = before.position < reader.position <= before.file.size
        if not (has_come_on and spool_folder.is_unchanged(self.stream, before.file)):
            raise Unfit(spool_folder.CHANGED)
        key, tally = 0, Tally(**before.tally)
        after = replace(before, position=reader.position, lines=reader.number)

        def write(connection: "Connection", batch: Batch) -> None:
            nonlocal key, tally
            tally += batch.tally
            rejected = [Reject(one.line, one.start, one.reason) for one in batch.rejected]
            moved = replace(after, tally=asdict(tally))
            key = spool.advance(connection, self.spool_id, before, moved, rejected)

        self.desk.admit(page, write)
        return replace(after, id=key, tally=asdict(tally))

    def _reject(self, at: Progress) -> str:
        """Write the rejected lines beside where the file will lie; the name it gets there."""
        assert at.id is not None, "a line was rejected in a transaction"
        target = at.target
        if target is None:
            target = self.folder.target(at.file.name)
            with self.desk.db.write() as connection:
                spool.aim(connection, at.id, target)
        self.folder.write_rejected(target, self._entries(at.id, at.tally["rejected"]))
        return target

    def _entries(self, file_id: int, expected: int) -> Iterator[dict[str, object]]:
        last = 0
        while page := self._rejects(file_id, last):
            expected -= len(page)
            for each in page:
                self.stream.seek(each.position)
                text = self.stream.readline(lines.LONGEST).rstrip(b"\r\n")
                yield {
                    "line": each.line,
                    "reason": each.reason,
                    "text": text.decode(errors="backslashreplace"),
                }
            last = page[-1].line
            self.got_on()
        if expected != 0:
            raise Overtaken

    def _rejects(self, file_id: int, after: int) -> list[Reject]:
        with self.desk.db.read() as connection:
            return list(spool.rejects(connection, file_id, after=after, limit=_PAGE))
