"""Text as a person should read it: without the vendor's citation markers and sandbox links.

Markers look like `【4:0†source】`, or like private-use characters around `turn0file0`
(https://community.openai.com and how-it-works of the Assistants docs); links like `[chart](sandbox:/mnt/data/c.png)`
lead nowhere outside the vendor's sandbox. Ordinary `【】` and `[]` stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from bot.domain import Citation

_MARKER = re.compile(r"【\d+(?::\d+)?†(?P<name>[^】]*)】|\ue200[^\ue201]*\ue201")
_LINK = re.compile(r"!?\[(?P<label>[^\[\]\n]*)\]\(sandbox:[^)\n]*\)")
_PATH = re.compile(r"sandbox:(?:/[^\s)\]/]+)*/(?P<name>[^\s)\]/]+)")


def _beginning(word: str, then: str = "") -> str:
    """A pattern for each beginning of the word but the empty one, or the word and `then`."""
    pattern = then
    for letter in reversed(word):
        pattern = f"{letter}(?:{pattern})?" if pattern else letter
    return pattern


# The end of a delta that may be the beginning of one of the above. Bounded, so nothing is held for long.
_LINKED = _beginning("sandbox:", r"[^)\n]{0,300}")
_BARE = _beginning("sandbox:", r"[^\s)\]]{0,300}")
_PARTIAL = re.compile(
    r"(?:【[\d:]{0,12}(?:†[^】]{0,200})?"
    r"|\ue200[^\ue201]{0,200}"
    rf"|!?\[[^\[\]\n]{{0,120}}(?:\](?:\((?:{_LINKED})?)?)?"
    rf"|(?<!\w){_BARE})\Z"
)


def _clean(text: str) -> str:
    if "【" in text or "\ue200" in text:
        text = _MARKER.sub("", text)
    if "sandbox:" in text:
        text = _LINK.sub(lambda link: link["label"], text)
        text = _PATH.sub(lambda path: path["name"], text)
    return text


class StreamCleaner:
    """Cleans the deltas of one message; holds back what may turn out to be a marker.

    What is still held when the message completes is told by the authoritative text.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def add(self, delta: str) -> str:
        text = self._held + delta if self._held else delta
        partial = _PARTIAL.search(text)
        if partial is None:
            self._held = ""
            return _clean(text)
        self._held = partial[0]
        return _clean(text[: partial.start()])


@dataclass(frozen=True, slots=True)
class Cleaned:
    text: str
    citations: tuple[Citation, ...]
    files: tuple[tuple[str, str], ...]  # id and name of files the text links to


def cleaned(value: str, annotations: Sequence[Mapping[str, Any]]) -> Cleaned:
    """A complete text with its annotations. Sources are numbered by first appearance: `[1]`, `[2]`.

    Spans are checked against the text they claim to cover, because servers count characters differently.
    """
    pieces: list[str] = []
    citations: dict[str, Citation] = {}
    files: dict[str, str] = {}
    done, said = 0, ""
    for note in sorted(annotations, key=lambda note: note.get("start_index") or 0):
        if (path := note.get("file_path")) is not None:
            files.setdefault(path["file_id"], PurePosixPath(note.get("text", "")).name)
        if (source := note.get("file_citation")) is None:
            continue
        start = _where(value, note, done)
        if start < 0:
            continue
        marker_text = note["text"]
        citation = citations.get(source["file_id"])
        if citation is None:
            citation = Citation(
                f"[{len(citations) + 1}]", source["file_id"], _named(marker_text), source.get("quote") or ""
            )
            citations[citation.file] = citation
        between = _clean(value[done:start])
        pieces.append(between)
        if between or said != citation.marker:  # the same source twice in a row is said once
            before = pieces[-1] or said
            pieces.append(citation.marker if not before or before[-1].isspace() else f" {citation.marker}")
        said, done = citation.marker, start + len(marker_text)
    pieces.append(_clean(value[done:]))
    return Cleaned("".join(pieces), tuple(citations.values()), tuple(files.items()))


def _where(value: str, note: Mapping[str, Any], done: int) -> int:
    text = note.get("text") or ""
    start = note.get("start_index") or 0
    if not text:
        return -1
    return start if start >= done and value.startswith(text, start) else value.find(text, done)


def _named(marker: str) -> str:
    found = _MARKER.fullmatch(marker)
    name = (found["name"] if found else "") or ""
    return "" if name == "source" else name
