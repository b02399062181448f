"""What is shown: answers that grow in place, a passing status line, the prompt. Model output cannot steer the terminal."""

from __future__ import annotations

import os
import re
import unicodedata
from typing import TextIO

SEPARATOR = "-----"
_DIM, _PLAIN, _ERASE = "\x1b[2m", "\x1b[0m", "\x1b[K"


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def harmless(text: str) -> str:
    """Without control characters but line end and tab: no escape sequence survives."""
    return _CONTROL.sub("", text)


class Screen:
    """Text shown under names; a text that grows is printed as it grows.

    One that changes otherwise is rewritten in place where a terminal still shows all of what changes. Else it is
    printed again whole, below a separator, once it is complete.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.terminal = stream.isatty()
        self.gone = False  # nobody reads any more
        self._shown: dict[str, str] = {}
        self._latest = ""  # the name whose text the cursor stands behind
        self._column = 0
        self._passing = 0  # columns of status or prompt that stand behind the text until something is printed

    def show(self, name: str, text: str, *, complete: bool) -> None:
        """Make the text under this name be this; `complete`: no more of it will come."""
        text = harmless(text)
        if complete and not text.endswith("\n"):
            text += "\n"
        shown = self._shown.get(name, "")
        more = _continuation(shown, text)
        if more is None and name == self._latest and self._rewrite(shown, text):
            self._shown[name] = text
            return
        if more is None and not complete:
            return
        if name != self._latest or more is None:
            self._fresh_line()
        self._write(f"{SEPARATOR}\n{text}" if more is None else more)
        self._shown[name], self._latest = text, name

    def withdraw(self, name: str) -> None:
        """Take a text back where that can be done: what left through a pipe is gone."""
        shown = self._shown.pop(name, None)
        if shown is not None and name == self._latest:
            self._rewrite(shown, "")

    def say(self, sentence: str) -> None:
        """Print a line of our own."""
        self._fresh_line()
        self._latest = ""
        self._write(f"{harmless(sentence)}\n")

    def status(self, words: str) -> None:
        """Dim words behind the text that vanish when something is printed. Never on a pipe."""
        self._pass(f" {words}" if self._column else words, _DIM, _PLAIN)

    def prompt(self, words: str) -> None:
        self._fresh_line()
        self._latest = ""
        self._pass(words, "", "")

    def typed(self) -> None:
        """A line was typed: the terminal has echoed it and stands at the start of the next."""
        self._latest, self._column, self._passing = "", 0, 0

    def clear(self) -> None:
        """Remove what only passes."""
        if self._passing:
            self._put(f"\x1b[{self._passing}D{_ERASE}" if self._column else f"\r{_ERASE}")
            self._passing = 0

    def _pass(self, words: str, before: str, behind: str) -> None:
        self.clear()
        if self.terminal and self._column + len(words) < self._columns:
            self._put(f"{before}{words}{behind}")
            self._passing = len(words)

    def _fresh_line(self) -> None:
        self.clear()
        if self._column:
            self._write("\n")

    def _rewrite(self, shown: str, text: str) -> bool:
        """Go back to the first line that differs and print from there; False when it cannot be reached."""
        differing = (at for at, (old, new) in enumerate(zip(shown, text, strict=False)) if old != new)
        same = shown.rfind("\n", 0, next(differing, min(len(shown), len(text)))) + 1
        rows = sum(1 + max(_width(line) - 1, 0) // self._columns for line in shown[same:].split("\n"))
        if not self.terminal or rows >= self._rows:
            return False
        self.clear()
        self._put("\r" + (f"\x1b[{rows - 1}A" if rows > 1 else "") + "\x1b[J")
        self._column = 0
        self._write(text[same:])
        return True

    def _write(self, text: str) -> None:
        if text:
            self.clear()
            line = text.rpartition("\n")[2]
            self._column = _width(line) + (0 if "\n" in text else self._column)
            self._column %= max(self._columns, 1)
            self._put(text)

    def _put(self, text: str) -> None:
        if self.gone:
            return
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
            self._stream.flush()
        except (OSError, ValueError):  # a closed pipe, a closed file
            self.gone = True

    @property
    def _columns(self) -> int:
        return self._size().columns

    @property
    def _rows(self) -> int:
        return self._size().lines

    def _size(self) -> os.terminal_size:
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return os.terminal_size((80, 24))
        return size if size.columns and size.lines else os.terminal_size((80, 24))


def _continuation(shown: str, text: str) -> str | None:
    """What to print to get from one text to the other; None when that does not do. Trailing space does not count."""
    if text.startswith(shown):
        return text[len(shown) :]
    bare = shown.rstrip()
    if not text.startswith(bare):
        return None
    rest = text[len(bare) :]
    more = rest.lstrip()
    line_ends = rest[: len(rest) - len(more)].count("\n") - shown.count("\n", len(bare))
    return "\n" * line_ends + more if line_ends >= 0 or not more else None


def _width(line: str) -> int:
    """Columns the line takes: wide characters two, combining ones none."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in line.expandtabs(8)
    )
