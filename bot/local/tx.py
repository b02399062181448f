"""What can be said to the database inside one transaction."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bot.local.errors import ApiError, bad_request, not_found
from bot.local.wire import Body, dumps

Kind = Literal["assistant", "thread", "message", "run", "step", "file"]

_NAMES: dict[Kind, str] = {
    "assistant": "assistant",
    "thread": "thread",
    "message": "message",
    "run": "run",
    "step": "run step",
    "file": "file",
}

# seq is creation order, which is list order. parent: a message's and a run's thread, a step's run.
# tag: what lists filter by: the run that wrote a message, the purpose of a file.
SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  parent TEXT NOT NULL DEFAULT '',
  tag TEXT,
  body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS objects_listed ON objects (kind, parent, seq);
CREATE INDEX IF NOT EXISTS objects_tagged ON objects (tag, seq) WHERE tag IS NOT NULL;
CREATE TABLE IF NOT EXISTS active_runs (
  thread TEXT PRIMARY KEY,
  run TEXT NOT NULL UNIQUE,
  status TEXT NOT NULL,
  deadline REAL NOT NULL,
  spent TEXT
);
"""


class Gone(Exception):
    """The object was deleted meanwhile; nothing was written."""


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """The lock of a thread. `spent` is the token usage so far, of a run that waits for tool outputs."""

    thread: str
    run: str
    status: str
    deadline: float
    spent: Body | None


@dataclass(frozen=True, slots=True)
class Page:
    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    before: str | None = None


class Tx:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def insert(self, kind: Kind, body: Body, *, parent: str = "", tag: str | None = None) -> None:
        self._db.execute(
            "INSERT INTO objects (id, kind, parent, tag, body) VALUES (?, ?, ?, ?, ?)",
            (body["id"], kind, parent, tag, dumps(body)),
        )

    def save(self, body: Body) -> None:
        """Replaces an object; raises Gone when it does not exist (any more)."""
        if not self.save_if_there(body):
            raise Gone(body["id"])

    def save_if_there(self, body: Body) -> bool:
        cursor = self._db.execute("UPDATE objects SET body = ? WHERE id = ?", (dumps(body), body["id"]))
        return cursor.rowcount > 0

    def find(self, kind: Kind, object_id: str, *, parent: str = "") -> Body | None:
        row = self._db.execute(
            "SELECT body FROM objects WHERE id = ? AND kind = ? AND parent = ?", (object_id, kind, parent)
        ).fetchone()
        return None if row is None else _body(row[0])

    def need(self, kind: Kind, object_id: str, *, parent: str = "") -> Body:
        """Raises the API's 404."""
        body = self.find(kind, object_id, parent=parent)
        if body is None:
            raise not_found(_NAMES[kind], object_id)
        return body

    def modify(self, kind: Kind, object_id: str, changes: Body, *, parent: str = "") -> Body:
        body = self.need(kind, object_id, parent=parent) | changes
        self.save(body)
        return body

    def delete(self, kind: Kind, object_id: str, *, parent: str = "") -> None:
        self.need(kind, object_id, parent=parent)
        self._db.execute("DELETE FROM objects WHERE id = ?", (object_id,))

    def delete_thread(self, thread_id: str) -> None:
        """With its messages, runs and their steps, and its lock."""
        self.delete("thread", thread_id)
        self._db.execute(
            "DELETE FROM objects WHERE kind = 'step' AND parent IN"
            " (SELECT id FROM objects WHERE kind = 'run' AND parent = ?)",
            (thread_id,),
        )
        self._db.execute("DELETE FROM objects WHERE kind IN ('message', 'run') AND parent = ?", (thread_id,))
        self.release(thread_id)

    def all(self, kind: Kind, *, parent: str = "") -> list[Body]:
        """In order of creation."""
        rows = self._db.execute(
            "SELECT body FROM objects WHERE kind = ? AND parent = ? ORDER BY seq", (kind, parent)
        )
        return [_body(row[0]) for row in rows]

    def messages_of(self, run_id: str) -> list[Body]:
        rows = self._db.execute(
            "SELECT body FROM objects WHERE tag = ? AND kind = 'message' ORDER BY seq", (run_id,)
        )
        return [_body(row[0]) for row in rows]

    def page(
        self, kind: Kind, page: Page, *, parent: str = "", tag: str | None = None
    ) -> tuple[list[Body], bool]:
        """The objects, and whether there are more beyond them."""
        where = ["kind = ?", "parent = ?"]
        values: list[str | int] = [kind, parent]
        if tag is not None:
            where.append("tag = ?")
            values.append(tag)
        ascending = page.order == "asc"
        for name, cursor, beyond in (
            ("after", page.after, ascending),
            ("before", page.before, not ascending),
        ):
            if cursor:
                where.append("seq > ?" if beyond else "seq < ?")
                values.append(self._seq(kind, cursor, parent, name))
        # `before` alone asks for the page that ends just there, so it is read backwards.
        backwards = bool(page.before and not page.after)
        direction = "ASC" if ascending != backwards else "DESC"
        rows = self._db.execute(
            f"SELECT body FROM objects WHERE {' AND '.join(where)} ORDER BY seq {direction} LIMIT ?",  # noqa: S608  fixed words only
            (*values, page.limit + 1),
        ).fetchall()
        bodies = [_body(row[0]) for row in rows[: page.limit]]
        return (bodies[::-1] if backwards else bodies), len(rows) > page.limit

    def active(self, thread_id: str) -> ActiveRun | None:
        return next(self._active("WHERE thread = ?", thread_id), None)

    def all_active(self) -> list[ActiveRun]:
        return list(self._active(""))

    def claim(self, thread_id: str, run: Body, *, deadline: float) -> None:
        """The thread is this run's until `release`. Raises the API's 400 when it is another's."""
        active = self.active(thread_id)
        if active is not None:
            # Wording: TripSit/TripBot#939. The hosted API sent no code; ours is an extension.
            raise bad_request(
                f"Thread {thread_id} already has an active run {active.run}.", code="thread_locked"
            )
        self._db.execute(
            "INSERT INTO active_runs (thread, run, status, deadline) VALUES (?, ?, ?, ?)",
            (thread_id, run["id"], run["status"], deadline),
        )

    def mark(self, run: Body, *, spent: Body | None = None) -> None:
        """A state change of the active run that keeps its claim. Raises Gone when it has none."""
        self.save(run)
        cursor = self._db.execute(
            "UPDATE active_runs SET status = ?, spent = coalesce(?, spent) WHERE run = ?",
            (run["status"], None if spent is None else dumps(spent), run["id"]),
        )
        if not cursor.rowcount:
            raise Gone(run["id"])

    def release(self, thread_id: str) -> None:
        self._db.execute("DELETE FROM active_runs WHERE thread = ?", (thread_id,))

    def need_unlocked(self, thread_id: str) -> None:
        active = self.active(thread_id)
        if active is not None:
            # Wording: openai/openai-python#1023.
            raise bad_request(
                f"Can't add messages to {thread_id} while a run {active.run} is active.", code="thread_locked"
            )

    def _active(self, where: str, *values: str) -> Iterator[ActiveRun]:
        sql = f"SELECT thread, run, status, deadline, spent FROM active_runs {where}"  # noqa: S608  fixed words only
        for thread, run, status, deadline, spent in self._db.execute(sql, values):
            yield ActiveRun(thread, run, status, deadline, None if spent is None else _body(spent))

    def _seq(self, kind: Kind, object_id: str, parent: str, param: str) -> int:
        row = self._db.execute(
            "SELECT seq FROM objects WHERE id = ? AND kind = ? AND parent = ?", (object_id, kind, parent)
        ).fetchone()
        if row is None:
            raise ApiError(400, f"No {_NAMES[kind]} found with id '{object_id}'.", param=param)
        seq: int = row[0]
        return seq


def _body(text: str) -> Body:
    body: Body = json.loads(text)
    return body
