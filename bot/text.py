"""Pure: make a model's markdown fit a chat. Split it at a limit, keep it from pinging anybody.

Neutralise first, then split: neutralising makes a text longer. Characters are Python's (code points).
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

from bot.blocks import Fence, Place
from bot.cuts import Cut, choose

_ZERO_WIDTH_SPACE = "\u200b"

# Each match ends right before the character that would complete the ping. So neutralising what has arrived so far
# only ever appends when more arrives, which native streams (that cannot take anything back) depend on.
_PING = re.compile(
    r"@everyon(?=e)|@her(?=e)|@channe(?=l)"
    r"|<!(?:channel|here|everyone|group)(?=[>|])|<!subteam(?=\^)"
    r"|<@[&!]?(?:\d+|(?-i:[UWB][A-Z0-9]+))(?=[>|])",
    re.IGNORECASE,
)


def neutralise(text: str) -> str:
    """Keep pings of Slack and Discord from pinging: they read the same, with a zero-width space inside.

    Idempotent. A longer text never changes what a shorter one gave: `neutralise(a + b)` starts with `neutralise(a)`.
    """
    return _PING.sub(lambda ping: ping[0] + _ZERO_WIDTH_SPACE, text)


def split(markdown: str, limit: int) -> list[str]:
    """Cut into parts of at most `limit` characters; only white space at the cuts is dropped.

    Cuts at the end of a block if that fills half a part, else of a line, a sentence, a word, else anywhere. A code
    fence that is cut is closed, and opened again in the next part; a table is moved to the next part whole, or, too
    long for one, cut between rows with its header repeated. The last part is left as it came.

    Each part is decided by its own characters and the one behind, so parts are final as soon as another follows:
    `split(text + more)` begins with all parts of `split(text)` but the last. Blank text has no parts.
    """
    return Splitter(limit).feed(markdown)


_BLANK_LINES = re.compile(r"(?:[ \t\r]*\n)*")
_REST_OF_LINE = re.compile(r"[ \t\r]*(?:\n(?:[ \t\r]*\n)*)?")


class Splitter:
    """`split` for a text that grows: parts that are final are kept, so the work goes with what is new."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"a part needs room for at least one character, not {limit}")
        self._limit = limit
        self._reset()

    def _reset(self) -> None:
        self._text = ""
        self._parts: list[str] = []
        self._cut = Cut(0, 0, Place())

    def feed(self, text: str) -> list[str]:
        """The parts of the whole text so far. A text that does not continue the one before is started afresh."""
        if not text.startswith(self._text):
            self._reset()
        self._text = text
        while True:
            start, place, repeated = self._begin()
            carried = place.fence
            room = self._limit - len(repeated)
            if len(text) - start <= room:
                rest = text[start:]
                return [*self._parts, repeated + _dedented(rest, carried)] if rest.strip() else [*self._parts]
            window = text[start : start + room + 1]
            cut = choose(window, place, partial(self._closing, carried=carried))
            body = text[start : start + cut.end]
            closing = self._closing(cut.place.fence, carried)
            if not closing:
                body = body.rstrip()
                cut = replace(cut, place=replace(cut.place, fence=None))
            if body.strip():
                self._parts.append(f"{repeated}{_dedented(body, carried)}{closing}")
            self._cut = replace(cut, end=start + cut.end, behind=start + cut.behind)

    def _begin(self) -> tuple[int, Place, str]:
        """Where the next part's own text starts, in which place, and what is repeated above it."""
        text, cut, place = self._text, self._cut, self._cut.place
        if cut.behind == 0:
            return 0, place, ""
        if (fence := place.fence) is not None:
            opening = fence.reopening if len(fence.reopening) <= self._limit // 4 else fence.bare
            return cut.behind, place, f"{opening}\n"
        skip = _REST_OF_LINE if cut.inline else _BLANK_LINES
        start = skipped.end() if (skipped := skip.match(text, cut.behind)) else cut.behind
        blank_lines = text.count("\n", cut.behind, start) - cut.inline
        # Only characters that this part's cut looks at anyway may decide, or a longer text would decide otherwise.
        first = text[start : start + max(self._limit - len(place.table) + 1, 0)].partition("\n")[0]
        if place.table and blank_lines < 1 and len(place.table) <= self._limit // 2 and "|" in first:
            return start, place, place.table
        return start, Place(list_indent=place.list_indent), ""

    def _closing(self, fence: Fence | None, carried: Fence | None) -> str:
        """What closes the part that ends in this fence; nothing when it takes too much of the part."""
        if fence is None:
            return ""
        closing = fence.closing(continued=fence is carried)
        return f"\n{closing}" if len(closing) <= self._limit // 4 else ""


def _dedented(body: str, fence: Fence | None) -> str:
    """The text of a part that goes on with this fence, its lines moved left as far as the fence was moved."""
    if fence is None or not fence.dedent:
        return body
    lines = body.split("\n")
    for index, line in enumerate(lines):
        lines[index] = line[min(fence.dedent, len(line) - len(line.lstrip(" "))) :]
        if fence.closed_by(line):
            break
    return "\n".join(lines)
