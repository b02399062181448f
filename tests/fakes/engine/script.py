"""What a scripted run does, act by act."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Say:
    """One delta of the current message; opens a message when none is open."""

    text: str
    cites: str = ""  # file id: the whole text of this delta is a citation marker for it
    links: str = ""  # file id: the whole text of this delta is a sandbox path to it


@dataclass(frozen=True, slots=True)
class Image:
    """An image content part of the current message."""

    file: str


@dataclass(frozen=True, slots=True)
class CloseMessage:
    """Complete the current message; the next Say opens another."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Hold until the test opens the gate."""

    gate: str


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection goes away, the run goes on. `clean`: the body ends properly, without a terminal event."""

    clean: bool = True


@dataclass(frozen=True, slots=True)
class Mute:
    """The connection stays open and silent but for keep-alive comments when asked; the run goes on."""

    keep_alive_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Raw:
    """A frame exactly as given: error events, unknown events, garbage."""

    frame: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A finished tool step. `output`: image file id or log lines."""

    kind: Literal["code_interpreter", "file_search"]
    input: str = ""
    image: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """requires_action with these (name, arguments), all at once; goes on when every output came."""

    calls: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class End:
    """How the run ends; a script without one completes."""

    status: Literal["completed", "failed", "incomplete", "expired", "cancelled"]
    code: str = ""
    message: str = ""
    reason: str = ""


Act = Say | Image | CloseMessage | Wait | Pause | Cut | Mute | Raw | Tool | Call | End


@dataclass(frozen=True, slots=True)
class Script:
    """Without acts it echoes: `reply`, or "You said: ..." with the text of the newest user message."""

    acts: tuple[Act, ...] = ()
    chunks: int = 3
    delay: float = 0.0  # seconds before each chunk of the echo
    reply: str | None = None
    cancel_gate: str = ""  # a cancel stays `cancelling` until this gate opens

    def played(self, heard: str) -> tuple[Act, ...]:
        if self.acts:
            return self.acts
        text = f"You said: {heard}" if self.reply is None else self.reply
        return said(text, chunks=self.chunks, delay=self.delay)


def said(text: str, *, chunks: int = 3, delay: float = 0.0) -> tuple[Act, ...]:
    """The text in equal pieces, with a pause before each."""
    size = max(1, -(-len(text) // max(1, chunks)))
    acts: list[Act] = []
    for start in range(0, len(text), size):
        if delay:
            acts.append(Pause(delay))
        acts.append(Say(text[start : start + size]))
    return tuple(acts)


@dataclass(slots=True)
class Fault:
    """An answer instead of the real one, for the next `times` requests that match."""

    method: str
    path: str  # regular expression, searched in the path
    status: int = 500
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()
    after: bool = False  # the request is processed, then answered with the fault
    reset: bool = False  # no answer at all: the connection is reset
    hang: str = ""  # no answer until this gate opens
    times: int = 1
