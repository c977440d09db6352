"""What a batch job of Vertex AI found out, by record: kept on the disk, however much it is."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from cloudreg_vertex.lines import Line, Shape, answer, lines, problem

if TYPE_CHECKING:
    from cloudreg.provider import ObjectStore

RESULTS = "prediction.results"
ERRORS = "prediction.errors"
MAX_MESSAGE = 1000
KEPT = 20
"""Messages of errors that do not say whose they are."""


class Gathering:
    """Predictions and errors of one job, from wherever they stand in its output."""

    def __init__(self, store: ObjectStore, shape: Shape) -> None:
        """Begin without any, in a temporary folder that `close` removes."""
        self._store = store
        self._shape = shape
        self._folder = tempfile.TemporaryDirectory(prefix="cloudreg-batch-")
        self._data = sqlite3.connect(Path(self._folder.name) / "answers.db", isolation_level=None)
        self._data.execute("PRAGMA journal_mode = OFF")
        self._data.execute("PRAGMA synchronous = OFF")
        self._data.execute(
            "CREATE TABLE told (kind TEXT, mark TEXT, said TEXT, PRIMARY KEY (kind, mark)) "
            "WITHOUT ROWID"
        )
        self._messages: dict[str, None] = {}

    def __enter__(self) -> Gathering:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget everything."""
        self._data.close()
        self._folder.cleanup()

    def take(self, prefix: str, *, errors: bool = True) -> None:
        """Read the output below a prefix of the store.

        Args:
            prefix: Of the output.
            errors: Whether to keep what the error files say.
        """
        for stored in self._store.list(prefix):
            name = stored.key.rpartition("/")[2]
            if name.startswith(RESULTS):
                self._keep("predictions", self._predictions(stored.key))
            elif errors and name.startswith(ERRORS):
                self._keep("errors", self._errors(stored.key))

    def is_answered(self, line: Line) -> bool:
        """Whether a record has its answer: a prediction, or an error that it began with."""
        return bool(line.error) or self._said("predictions", self._mark(line)) is not None

    def told(self, key: str, index: int, *, why: str) -> Iterator[bytes]:
        """Yield the answers for an object of the input, in the order of its lines.

        Args:
            key: The object's.
            index: Its number.
            why: What is said of a record of which nothing else is known.
        """
        for line in self.lines(key, index):
            if line.error:
                yield answer(error=line.error)
                continue
            mark = self._mark(line)
            said = self._said("predictions", mark)
            if said is not None:
                yield answer(prediction=json.loads(said))
            else:
                yield answer(error=self._said("errors", mark) or self._guess() or why)

    def lines(self, key: str, index: int) -> Iterator[Line]:
        """Yield the lines of an object of the input."""
        with closing(self._store.open(key)) as reader:
            yield from lines(iter(reader), index)

    def _guess(self) -> str:
        """Return the message of an error that does not say whose it is; empty without one."""
        messages = list(self._messages)
        if len(messages) > 1:
            return f"{messages[0]} (or another of the job's {len(messages)} errors)"
        return messages[0] if messages else ""

    def _mark(self, line: Line) -> str:
        return self._shape.mark(line.instance, line.key)

    def _said(self, kind: str, mark: str) -> str | None:
        found = self._data.execute(
            "SELECT said FROM told WHERE kind = ? AND mark = ?", (kind, mark)
        ).fetchone()
        return str(found[0]) if found is not None else None

    def _predictions(self, key: str) -> Iterator[tuple[str, str]]:
        with closing(self._store.open(key)) as reader:
            for line in reader:
                if line.strip():
                    said = json.loads(line)
                    mark = self._shape.marked(said)
                    if mark is not None and "prediction" in said:
                        yield mark, json.dumps(said["prediction"])

    def _errors(self, key: str) -> Iterator[tuple[str, str]]:
        with closing(self._store.open(key)) as reader:
            for line in reader:
                if not line.strip():
                    continue
                mark, message = problem(line, self._shape)
                if mark is not None:
                    yield mark, message[:MAX_MESSAGE]
                elif len(self._messages) < KEPT:
                    self._messages[message[:MAX_MESSAGE]] = None

    def _keep(self, kind: str, found: Iterator[tuple[str, str]]) -> None:
        self._data.execute("BEGIN")
        self._data.executemany(
            "INSERT OR REPLACE INTO told VALUES (?, ?, ?)", ((kind, *one) for one in found)
        )
        self._data.execute("COMMIT")
