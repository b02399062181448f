"""Pure: where to end a part of a markdown text that is too long for one. The rules are in `bot.text.split`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from bot.blocks import Fence, Place

_SENTENCE_END = re.compile(r"[.!?…][)\]\"'”’*_]*(?=\s)|[。！？]")
_WORD_END = re.compile(r"(?=\s)")
_BLOCK_BEGINS = re.compile(r"\s*(?:```|~~~|#{1,6}\s|[-*+]\s|\d{1,9}[.)]\s|>|\||-{3}|={3})")
_JOINER = "\u200d"
_LONGEST_CLUSTER = 64


@dataclass(frozen=True, slots=True)
class Cut:
    """A part ends at `end`; its successor is looked for from `behind` on. `place` is that of `end`."""

    end: int
    behind: int
    place: Place
    inline: bool = False  # within a line


@dataclass(slots=True)
class _LineEnd:
    end: int
    place: Place
    block: bool = False  # a block ends here too
    forbidden: bool = False  # between a table's header and its first row


Closing = Callable[[Fence | None], str]


def choose(window: str, place: Place, closing: Closing) -> Cut:
    """Cut a window of a text that begins in this place; it holds one character more than there is room for.

    `closing` is what must fit behind a part that ends in a fence. Consumes at least one character.
    """
    room = len(window) - 1
    ends, table_at = _line_ends(window, place)
    last = ends[-1].place if ends else place
    usable = [
        one
        for one in ends
        if one.end and not one.forbidden and one.end + len(closing(one.place.fence)) <= room
    ]
    if table_at is not None and window[:table_at].strip():
        usable = [one for one in usable if one.end < table_at]
        least = 0
    elif last.table or (ends and last.fence is None and last.after(window[ends[-1].end + 1 :]).fence):
        least = 0  # the line that opens a fence stays whole
    else:
        least = room // 4 if last.fence else room // 2
    blocks = (one for one in reversed(usable) if one.block and one.end >= room // 2)
    lines = (one for one in reversed(usable) if one.end >= least)
    if (best := next(blocks, None) or next(lines, None)) is not None:
        return Cut(best.end, best.end + 1, best.place)
    return _inline(window, place, ends, closing)


def _line_ends(window: str, place: Place) -> tuple[list[_LineEnd], int | None]:
    """All line ends, and where a table starts that the window's end cuts."""
    ends: list[_LineEnd] = []
    table_at: int | None = None
    at = header_at = 0
    while (end := window.find("\n", at)) != -1:
        line = window[at:end]
        before, place = place, place.after(line)
        this = _LineEnd(end, place)
        if place.table and not before.table:
            table_at = header_at
            this.forbidden = True
            if ends:
                ends[-1].forbidden = True
            if len(ends) > 1:
                ends[-2].block = True
        elif not place.table:
            table_at = None
            if ends and (before.table or (place.fence and not before.fence)):
                ends[-1].block = True
            this.block = not place.fence and (before.fence is not None or not line.strip())
        ends.append(this)
        header_at, at = at, end + 1
    if place.may_begin_table(window[at:]):
        table_at = header_at
        ends[-1].forbidden = True
    return ends, table_at


# --- within a line -----------------------------------------------------------------------------------------------


def _inline(window: str, place: Place, ends: list[_LineEnd], closing: Closing) -> Cut:
    bound = len(window) - 1
    while True:
        line = next((one for one in reversed(ends) if one.end < bound), None)
        at, begun = (line.end + 1, line.place) if line else (0, place)
        end = _best(window, at, bound)
        behind = begun if begun.table else begun.after(window[at:end])
        over = end + len(closing(behind.fence)) - (len(window) - 1)
        if over <= 0 or bound <= over:
            break
        bound -= over
    if window[end] == "\n":
        return Cut(end, end + 1, behind)
    return Cut(end, end, behind, inline=True)


def _best(window: str, at: int, bound: int) -> int:
    """The last good place in this line at or before `bound`."""
    least = max(at + 1, bound // 2)
    for pattern in (_SENTENCE_END, _WORD_END):
        found = [match.end() for match in pattern.finditer(window, least, bound + 1)]
        for end in reversed(found):
            if end <= bound and not _BLOCK_BEGINS.match(window, end):
                return end
    for end in range(bound, max(least, bound - _LONGEST_CLUSTER), -1):
        if not _glued(window, end):
            return end
    return bound


def _glued(text: str, at: int) -> bool:
    """Whether the characters around this position are shown as one, or mean something only together."""
    before, after = text[at - 1], text[at]
    if before == after and after in "`~*_":
        return True
    if "\ud800" <= before <= "\udbff" and "\udc00" <= after <= "\udfff":
        return True
    if _JOINER in (before, after) or unicodedata.category(after) in ("Mn", "Me", "Mc"):
        return True
    if "\U0001f3fb" <= after <= "\U0001f3ff" or "\U000e0020" <= after <= "\U000e007f":
        return True  # a skin tone, a flag's tag
    if _is_regional(before) and _is_regional(after):  # a flag is a pair: count how many came before
        start = at
        while start and _is_regional(text[start - 1]):
            start -= 1
        return (at - start) % 2 == 1
    return False


def _is_regional(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
