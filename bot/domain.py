"""The words of the house as plain data: standard library only, frozen, and safe to send through JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal
from urllib.parse import quote, unquote


@dataclass(frozen=True, slots=True)
class ThreadKey:
    """One conversation on a platform. `str()` and `parse()` are inverse; the text holds no `{` or `}`."""

    platform: str
    workspace: str
    channel: str
    root: str

    def __str__(self) -> str:
        return ":".join(
            quote(part, safe=".-_") for part in (self.platform, self.workspace, self.channel, self.root)
        )

    @classmethod
    def parse(cls, text: str) -> ThreadKey:
        """Raise ValueError when the text was not made by `str()`."""
        parts = [unquote(part) for part in text.split(":")]
        if len(parts) != 4:
            raise ValueError(f"not a thread key: {text!r}")
        return cls(*parts)


# --- what people say ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Author:
    id: str
    name: str = ""
    workspace: str = ""  # where the author belongs, when that differs from the thread's (Slack Connect)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file a person sent: where the platform keeps it, not its bytes."""

    id: str
    name: str
    media_type: str = "application/octet-stream"
    size: int = 0  # bytes; 0 when the platform did not say
    url: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """What a person wrote. `id` orders and names it within its channel (Slack: ts, Discord: snowflake)."""

    id: str
    thread: ThreadKey
    author: Author
    text: str
    attachments: tuple[Attachment, ...] = ()
    addressed: bool = (
        True  # a mention or a direct message; False: a line in a thread that may or may not be ours
    )
    private: bool = False  # one person's direct conversation: nobody else reads along
    opens: bool = True  # the first message of its thread; False: said inside a thread that was there before


@dataclass(frozen=True, slots=True)
class Exchange:
    """One finished turn as a transcript keeps it: what was asked and what was answered."""

    asked: str
    answered: str


# --- what the engine thinks with ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunLimits:
    seconds: float = 600.0  # one run, from start to end
    attempts: int = 4  # runs of one turn when the engine fails in a way worth retrying


@dataclass(frozen=True, slots=True)
class Assistant:
    """Our own definition. `version` is the hash of everything the engine is told, so equal text is equal version."""

    key: str
    name: str
    instructions: str
    model: str
    tools: tuple[str, ...]
    version: str
    limits: RunLimits = field(default_factory=RunLimits)


@dataclass(frozen=True, slots=True)
class ThreadRef:
    """The thread's twin on an engine. `engine` names the engine and its server: a ref of another one is foreign."""

    engine: str
    id: str


@dataclass(frozen=True, slots=True)
class RunRef:
    thread: str
    id: str


@dataclass(frozen=True, slots=True)
class EngineFile:
    """An attachment as the engine knows it."""

    id: str
    name: str
    media_type: str


@dataclass(frozen=True, slots=True)
class Input:
    """One thing said to the engine: text as it is to be read, and the files that came with it."""

    text: str
    files: tuple[EngineFile, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: str  # JSON as the model wrote it: untrusted


@dataclass(frozen=True, slots=True)
class ToolOutput:
    call: str
    output: str


# --- what the engine says: the reply -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunStarted:
    run: RunRef


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of one engine message."""

    message: str
    text: str


@dataclass(frozen=True, slots=True)
class Citation:
    marker: str  # the text in the reply that stands for the source
    file: str  # the engine's file id
    name: str = ""
    quote: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """All text of one engine message so far; authoritative, replaces what its deltas added up to."""

    message: str
    text: str
    citations: tuple[Citation, ...] = ()


class ToolKind(StrEnum):
    CODE = "code_interpreter"
    SEARCH = "file_search"
    FUNCTION = "function"


@dataclass(frozen=True, slots=True)
class ToolStarted:
    call: str
    kind: ToolKind
    name: str = ""


@dataclass(frozen=True, slots=True)
class ToolDone:
    call: str


@dataclass(frozen=True, slots=True)
class FileProduced:
    id: str
    name: str = ""
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class ActionRequired:
    """The run waits for these calls. Ends the stream; go on with `Engine.resume(run, outputs)`."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    input_tokens: int = 0
    output_tokens: int = 0


RunOutcome = Literal["completed", "truncated", "cancelled", "expired", "refused"]


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run reached a terminal state the user can be told. Failures are raised instead (bot.errors)."""

    outcome: RunOutcome
    usage: Usage = field(default_factory=Usage)


Event = RunStarted | TextDelta | Text | ToolStarted | ToolDone | FileProduced | ActionRequired | RunEnded


# --- what the platform shows -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """What a platform can do. Chars count as the platform counts them."""

    post_chars: int
    edit_seconds: float  # least time between two edits of one post
    edits_per_minute: float  # all posts of this bot together; the pace is shared by the live threads
    upload_bytes: int


Stage = Literal["live", "sealed", "last"]
"""Of a post's text: more will come | complete, another post follows | complete, the answer ends here."""


@dataclass(frozen=True, slots=True)
class Post:
    """Something the bot said, as the platform names it. `kind` belongs to the outlet (Slack: stream or message)."""

    id: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Upload:
    file: str  # the engine's file id
    id: str  # the platform's


TurnOutcome = Literal["answered", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One batch of messages and the one answer to it: the durable record a worker that takes over goes on from.

    `id` is the id of the first message, so a redelivered batch has the same one. All but `id`, `thread` and
    `messages` is progress, saved under the lease before the next step is taken.
    """

    id: str
    thread: ThreadKey
    messages: tuple[Message, ...]
    ref: ThreadRef | None = None
    run: RunRef | None = None
    attempt: int = 0  # runs started so far
    posts: tuple[Post, ...] = ()
    uploads: tuple[Upload, ...] = ()
    files: tuple[tuple[str, EngineFile], ...] = ()  # attachment id -> what the engine holds
    notices: tuple[str, ...] = ()  # sentences that go above the answer
    resumed: bool = False  # another worker had it before: look before you post
    takeovers: int = 0  # how often that happened
    stopped: bool = False  # a person asked for silence
