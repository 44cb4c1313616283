"""What was found before, in a small SQLite file: by the blobs that were looked at, the recipe and the rules.

The rules are everything else that an answer depends on: our code, the patches, the parser. With other rules
nothing of it is asked any more, and it is dropped when the next answers are kept.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nodekiln.verify.outcome import Finding, Judgement, Side, Status

_PATIENCE = 10.0
"""Seconds to wait for another run that writes."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS looked (rules TEXT, question TEXT, tree TEXT, answer TEXT,
  PRIMARY KEY (rules, question, tree)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (rules TEXT, answer TEXT, judgement TEXT,
  PRIMARY KEY (rules, answer)) WITHOUT ROWID;
"""

_FIELDS = tuple(field.name for field in fields(Finding) if field.name != "explanation")
_SIDES = tuple(field.name for field in fields(Side))

Asked = tuple[str, str]
"""A question (tag, recipe and patches) and the commit that it is asked about."""


@dataclass(frozen=True, slots=True)
class Cache:
    """The answers under one set of rules. A file that can't be read or written costs time, never the run."""

    file: Path
    rules: str

    def by_commit(self) -> dict[Asked, Judgement]:
        """Everything known of commits."""
        answers = self.by_blobs()
        rows = self._select("SELECT question, tree, answer FROM looked WHERE rules = ?")
        return {(question, tree): answers[key] for question, tree, key in rows if key in answers}

    def by_blobs(self) -> dict[str, Judgement]:
        """Everything known of sets of blobs, by their key."""
        rows = self._select("SELECT answer, judgement FROM answers WHERE rules = ?")
        found = {}
        for key, text in rows:
            with suppress(ValueError, KeyError, TypeError):  # of a kind that we don't write
                found[key] = _read(text)
        return found

    def keep(self, looked: Mapping[Asked, str], answers: Mapping[str, Judgement]) -> None:
        """Adds what was found, in one transaction; drops what was found under other rules."""
        if not looked:
            return
        texts = [(self.rules, key, _written(answer)) for key, answer in answers.items()]
        rows = [(self.rules, question, tree, key) for (question, tree), key in looked.items()]
        with suppress(OSError):
            for _ in range(2):
                try:
                    self._write(rows, texts)
                    return
                except sqlite3.OperationalError:  # locked, no room, not to be written
                    return
                except sqlite3.DatabaseError:  # no database, or a damaged one
                    self.file.unlink(missing_ok=True)

    def _write(
        self, rows: Iterable[tuple[str, str, str, str]], texts: Iterable[tuple[str, str, str]]
    ) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.file, timeout=_PATIENCE)) as database, database:
            database.execute("PRAGMA synchronous = OFF")  # what a power cut costs is found again
            database.executescript(_SCHEMA)
            for table in ("looked", "answers"):
                database.execute(f"DELETE FROM {table} WHERE rules <> ?", (self.rules,))  # noqa: S608 (ours)
            database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", texts)
            database.executemany("INSERT OR REPLACE INTO looked VALUES (?, ?, ?, ?)", rows)

    def _select(self, query: str) -> list[tuple[str, ...]]:
        if not self.file.is_file():
            return []
        try:
            with closing(sqlite3.connect(self.file, timeout=_PATIENCE)) as database:
                return database.execute(query, (self.rules,)).fetchall()
        except sqlite3.DatabaseError:
            return []


def _written(judgement: Judgement) -> str:
    # dataclasses.asdict takes ten times as long: a third of a second for 300 tags.
    findings = [
        {name: getattr(finding, name) for name in _FIELDS}
        | {"explanation": [[getattr(side, name) for name in _SIDES] for side in finding.explanation]}
        for finding in judgement.findings
    ]
    return json.dumps({"status": judgement.status, "findings": findings})


def _read(text: str) -> Judgement:
    told = json.loads(text)
    return Judgement(Status(told["status"]), tuple(map(_finding, told["findings"])))


def _finding(told: dict[str, Any]) -> Finding:
    rest = {name: told[name] for name in _FIELDS if name not in ("status", "recipes")}
    sides = tuple(Side(*side) for side in told["explanation"])
    return Finding(status=Status(told["status"]), recipes=tuple(told["recipes"]), explanation=sides, **rest)
