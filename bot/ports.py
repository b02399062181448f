"""What the core asks of the world, and what a platform may ask of the core.

At most nine methods each, none optional: what a platform cannot do is a value in its `Limits`.
Every method raises only what `bot.errors` names.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Protocol

from bot.domain import (
    Assistant,
    Attachment,
    EngineFile,
    Event,
    Exchange,
    Input,
    Limits,
    Message,
    Post,
    RunRef,
    Stage,
    ThreadKey,
    ThreadRef,
    ToolKind,
    ToolOutput,
    Turn,
)


class Engine(Protocol):
    """What thinks. Speaks a vendor protocol, owns threads and runs on its side."""

    @property
    def name(self) -> str:
        """Names engine and server; two engines with the same name share threads."""
        ...

    async def create_thread(self, transcript: Sequence[Exchange]) -> ThreadRef:
        """Make a thread that already knows the transcript (oldest first, may be empty)."""
        ...

    def run(
        self, thread: ThreadRef, inputs: Sequence[Input], assistant: Assistant, *, turn: str
    ) -> AsyncGenerator[Event, None]:
        """Say the inputs and run the assistant, in one call to the vendor; marks the run with `turn`.

        The first event is RunStarted, the last ActionRequired or RunEnded. A cut connection is not an end: the
        engine finds the authoritative state itself. Raises Ambiguous when the run may have started unseen (then
        `find_run`), ThreadGone, ThreadBusy, Retryable (also for a run that failed for a passing reason), Rejected.
        Close it (`aclosing`) when leaving early; that does not end the run.
        """
        ...

    def resume(self, run: RunRef, outputs: Sequence[ToolOutput] = ()) -> AsyncGenerator[Event, None]:
        """Go on with a run, another worker's or after its ActionRequired. Ends and raises like `run`.

        Begins with the whole text so far (`Text`), not with what came before as deltas.
        """
        ...

    async def cancel(self, run: RunRef) -> None:
        """Ask the run to end; a run that ended before is fine. Returns when the thread takes a new run."""
        ...

    async def find_run(self, thread: ThreadRef, *, turn: str) -> RunRef | None:
        """Newest run of the turn, whatever its state."""
        ...

    async def upload(self, name: str, media_type: str, content: AsyncIterator[bytes]) -> EngineFile: ...

    def download(self, file: str) -> AsyncGenerator[bytes, None]:
        """Content of a file the engine produced."""
        ...

    async def check(self) -> None:
        """Raise Misconfigured (wrong key, no such model) or Retryable (unreachable)."""
        ...

    async def close(self) -> None: ...


class Outlet(Protocol):
    """The half of a platform that speaks; needs only REST. Safe for many threads at once, one call a post at a time.

    Every call raises Retryable (with the platform's wait), Ambiguous, PostGone, Rejected or Misconfigured.
    """

    @property
    def limits(self) -> Limits: ...

    async def open(self, turn: Turn, text: str, stage: Stage) -> Post:
        """Say something new in the turn's thread, marked so that `find` knows it again.

        The text is already neutralised and fits `limits.post_chars`; so it is in `edit`.
        """
        ...

    async def edit(self, turn: Turn, post: Post, text: str, stage: Stage) -> Post:
        """Make the post show exactly this text. Also for a post that another process opened.

        Returns the post to save: its kind may have changed (a native stream that had to be closed).
        """
        ...

    async def remove(self, post: Post, thread: ThreadKey) -> None:
        """Take a post back; one that is gone already is fine."""
        ...

    async def find(self, turn: Turn) -> tuple[Post, ...]:
        """Posts of this turn that the platform shows, oldest first, whoever opened them."""
        ...

    async def activity(self, turn: Turn, tool: ToolKind | None, *, working: bool) -> None:
        """Show that the assistant works (`tool`: at what) or that it stopped working. Never raises."""
        ...

    async def upload(self, turn: Turn, name: str, media_type: str, content: bytes) -> str:
        """Put a file into the thread; returns the platform's file id."""
        ...

    def fetch(self, attachment: Attachment) -> AsyncGenerator[bytes, None]:
        """Content of what a person sent. Only from the platform's own hosts, without redirects, within its size."""
        ...

    async def history(self, message: Message, limit: int) -> tuple[Message, ...]:
        """What was said in the message's thread before it, oldest first; empty where the platform cannot tell."""
        ...

    async def close(self) -> None: ...


class Mailroom(Protocol):
    """What a gateway tells the core. Each returns only after the fact is stored, so the platform can be answered."""

    async def put(self, message: Message) -> bool:
        """Store a message and announce its thread. A duplicate is stored once and announced again.

        False: not for us (a line in a thread the bot is not part of, or a channel that wants mentions).
        """
        ...

    async def amend(self, thread: ThreadKey, message: str, text: str) -> bool:
        """A waiting message was edited: its new text will be answered. False: it no longer waits."""
        ...

    async def withdraw(self, thread: ThreadKey, message: str) -> bool:
        """A waiting message was deleted: it will not be answered. False: it no longer waits."""
        ...

    async def stop(self, thread: ThreadKey) -> bool:
        """Silence: end the running turn and drop what waits. False: there was nothing to stop.

        A thread without a root stands for every thread of its channel that is being answered.
        """
        ...

    async def feedback(self, thread: ThreadKey, post: str, author: str, *, good: bool) -> None: ...


class Gateway(Protocol):
    """The half of a platform that hears."""

    async def run(self, mailroom: Mailroom) -> None:
        """Hear until cancelled. Survives lost connections; raises Misconfigured when it can never hear."""
        ...

    def healthy(self) -> bool:
        """Whether it hears right now."""
        ...


class Desk(Protocol):
    """A thread held under a lease, as the conversation sees it. Every write raises LeaseLost when it is held no more."""

    async def save(self, turn: Turn) -> None:
        """Write the turn's progress and its engine thread."""
        ...

    async def held(self) -> None:
        """Return at once while the lease is surely ours; else wait until that is known."""
        ...

    async def transcript(self) -> tuple[Exchange, ...]:
        """Finished turns of this thread, oldest first."""
        ...


class Clock(Protocol):
    """Time, injected so that tests need not wait."""

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    async def sleep(self, seconds: float) -> None: ...
