"""The table that the bench prints, and the marks it is held against."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Verdict = str


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `elsewhere`: the same of Vercel's Chat SDK and of a hand-written Bolt bot, measured elsewhere."""

    figure: str
    ours: str
    mark: str = ""
    met: bool | None = None
    bolt: str = ""
    elsewhere: tuple[str, str] = ("", "")


# Measured elsewhere, on 2 shared cores: (Chat SDK, hand-written Bolt). Not comparable to the millisecond with
# what this machine does today; the Bolt column beside ours is.
TO_RUN = ("4.1 / 9.1", "3.8 / 8.0")
FIRST_TEXT = ("1600-5000", "")
TURNS = ("337", "113")
CPU = ("2.9", "8.8")
COMMANDS = ("15", "")
RSS_2000 = ("577", "193")
REDELIVERED = ("", "answered twice")


def table(title: str, rows: Iterable[Row]) -> str:
    head = ("figure", "ours", "mark", "verdict", "plain Bolt", "Chat SDK *", "Bolt *")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    drawn = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([title, "", drawn[0], rule, *drawn[1:]])


def _cells(row: Row) -> tuple[str, ...]:
    verdict = {True: "met", False: "MISSED", None: ""}[row.met]
    return (row.figure, row.ours, row.mark, verdict, row.bolt, *row.elsewhere)
