"""Pure: which markdown block a line stands in, as far as cutting a text needs to know it: fences, tables, lists.

After CommonMark 0.31 (https://spec.commonmark.org/0.31.2/#fenced-code-blocks) and GitHub's tables
(https://github.github.com/gfm/#tables-extension-), lenient where models are sloppy: a fence in a list item may
be indented more or less than its item asks for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_OPENER = re.compile(
    r"(?P<quote>(?: {0,3}>)*)(?P<lead>[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*)(?P<mark>`{3,}|~{3,})(?P<info>.*)"
)
_CLOSER = re.compile(r"(?: {0,3}>)*(?P<lead>[ \t]*)(?P<mark>`{3,}|~{3,})[ \t\r]*")
_ITEM = re.compile(r"[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]+")
_DELIMITER = re.compile(r"[ >]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t\r]*")
_DELIMITER_BEGUN = re.compile(r"[ \t>|:-]*")


@dataclass(frozen=True, slots=True)
class Fence:
    """An open code fence: `quote` and `lead` are what stands before its mark, `info` what stands behind."""

    quote: str
    lead: str
    mark: str
    info: str

    @property
    def indent(self) -> int:
        return len(self.lead)

    @property
    def dedent(self) -> int:
        """Columns that the lines of a continuation lose: outside its list item a deep fence would be no fence."""
        return self.indent if self.indent > 3 else 0

    @property
    def reopening(self) -> str:
        return f"{self.bare}{self.info}"

    @property
    def bare(self) -> str:
        return f"{self.quote}{' ' * (self.indent - self.dedent)}{self.mark}"

    def closing(self, *, continued: bool) -> str:
        return self.bare if continued else f"{self.quote}{' ' * self.indent}{self.mark}"

    def closed_by(self, line: str) -> bool:
        found = _CLOSER.fullmatch(line) if self.mark[:3] in line else None
        return (
            found is not None
            and found["mark"].startswith(self.mark)
            and len(found["lead"]) <= self.indent + 3
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line boundary stands: in a fence, in a table (`table`: its first two lines), in a list, or free."""

    fence: Fence | None = None
    table: str = ""
    list_indent: int = 0
    previous: str = ""  # the line before, when it may turn out to be a table's header

    def after(self, line: str) -> Place:
        """The place behind one more line (given without its line end)."""
        if self.fence is not None:
            if self.fence.closed_by(line) or (self.fence.quote and not line.lstrip(" ").startswith(">")):
                return replace(self, fence=None)
            return self
        if (fence := self._opened_by(line)) is not None:
            return Place(fence=fence, list_indent=self.list_indent)
        if self.table and "|" in line:
            return self
        if self.previous and "|" in line and _DELIMITER.fullmatch(line):
            return Place(table=f"{self.previous}\n{line}\n", list_indent=self.list_indent)
        return Place(list_indent=self._listed(line), previous=line if "|" in line else "")

    def may_begin_table(self, tail: str) -> bool:
        """Whether `tail`, the beginning of the next line, may make a table of the line before."""
        return bool(self.previous) and _DELIMITER_BEGUN.fullmatch(tail) is not None

    def _opened_by(self, line: str) -> Fence | None:
        if "```" not in line and "~~~" not in line:
            return None
        found = _OPENER.match(line)
        if found is None or (found["mark"][0] == "`" and "`" in found["info"]):
            return None
        lead = found["lead"]
        if not lead.strip() and len(lead) > self.list_indent + 3:
            return None  # an indented code block
        return Fence(found["quote"], lead, found["mark"], found["info"].rstrip())

    def _listed(self, line: str) -> int:
        """Columns to which the content of the list item we are in is indented; 0 outside lists."""
        if (item := _ITEM.match(line)) is not None:
            return item.end()
        return self.list_indent if not line or line[0] in " \t" else 0
