"""One tree, sorted by what the caller should do.

    ThreadbotError
    ├── Retryable        wait `retry_after` (or back off), then do it again: it did not happen
    │   └── RunFailed    the run is over and failed for a passing reason: start a new one
    ├── Ambiguous        it may have happened: look (find_run, find) before doing it again
    ├── Rejected         do not try again: tell the person `user_text`
    ├── ThreadGone       the engine forgot the thread: rebuild it from the transcript
    ├── ThreadBusy       the engine still works on `run` of this thread: wait for it or cancel it
    ├── PostGone         the platform no longer lets us edit this post: go on in a new one
    ├── Misconfigured    tell the operator and stop: retrying cannot help
    └── LeaseLost        another worker has the thread: write nothing, say nothing, leave

Vendor errors are translated once per adapter, `from` the original. Anything else is a bug.
"""

from __future__ import annotations


class ThreadbotError(Exception):
    pass


class Retryable(ThreadbotError):
    """`retry_after` is in seconds; None leaves the wait to the caller."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RunFailed(Retryable):
    pass


class Ambiguous(ThreadbotError):
    pass


class Rejected(ThreadbotError):
    """`user_text` is one sentence for the chat: what happened and what to do."""

    def __init__(self, user_text: str) -> None:
        super().__init__(user_text)
        self.user_text = user_text


class ThreadGone(ThreadbotError):
    pass


class ThreadBusy(ThreadbotError):
    """`run` is the id of the run in the way, when the engine named it."""

    def __init__(self, message: str, *, run: str | None = None) -> None:
        super().__init__(message)
        self.run = run


class PostGone(ThreadbotError):
    pass


class Misconfigured(ThreadbotError):
    """`problems` are sentences for the operator, each with its fix; never a secret's value."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class LeaseLost(ThreadbotError):
    pass
