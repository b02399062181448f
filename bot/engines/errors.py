"""What the vendor's errors mean: the one table from openai and HTTP to `bot.errors`."""

from __future__ import annotations

import contextlib
import email.utils
import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import openai

from bot.errors import (
    Ambiguous,
    Misconfigured,
    Rejected,
    Retryable,
    RunFailed,
    ThreadbotError,
    ThreadBusy,
    ThreadGone,
)

QUOTA = "The AI service refuses to answer because its quota is used up. Please tell whoever runs this bot."
INVALID = "The AI service declined this request. Please rephrase it and ask again."
TOO_LONG = "This conversation has become too long for the AI model. Please start a new thread."
TOO_LARGE = "What was sent is too large for the AI service. Please send less at once."
FILE_GONE = "A file of this conversation is no longer available to the AI service. Please share it again."
REFUSED = (
    "The AI service did not accept this request. Please start a new thread, or tell whoever runs this bot."
)

_BUSY = re.compile(r"(?:while a run|active run) ([\w-]+)")
_AGAIN = re.compile(
    r"try again in (?:(?P<h>\d+)h)?(?:(?P<m>\d+)m(?!s))?(?:(?P<s>\d+(?:\.\d+)?)s)?(?:(?P<ms>\d+(?:\.\d+)?)ms)?",
    re.IGNORECASE,
)
_BEFORE_SENDING = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class AssistantGone(Retryable):
    """The server no longer has our assistant definition: sync it again, once."""


@contextlib.contextmanager
def translated(*, creating: bool = False) -> Iterator[None]:
    """`creating`: the call makes something, so where an error leaves that open it is Ambiguous."""
    try:
        yield
    except openai.APIStatusError as exc:
        raise _status(exc, creating=creating) from exc
    except openai.APIConnectionError as exc:
        raise _connection(exc, exc.__cause__, creating=creating) from exc
    except httpx2.TransportError as exc:
        raise _connection(exc, exc, creating=creating) from exc
    except (
        openai.APIError,
        httpx2.DecodingError,
        json.JSONDecodeError,
    ) as exc:  # a proxy's HTML, a body cut short
        raise _lost(
            f"The engine's answer could not be read ({type(exc).__name__})", creating=creating
        ) from exc


def not_assistants(where: str) -> Misconfigured:
    return Misconfigured(
        f"The server at {where} does not speak the Assistants API: "
        "set OPENAI_BASE_URL to one that does, or THREADBOT_ENGINE=responses."
    )


def failed(last_error: Mapping[str, Any] | None) -> ThreadbotError:
    """A run that ended `failed`."""
    code = (last_error or {}).get("code") or ""
    message = (last_error or {}).get("message") or "no reason given"
    if code == "invalid_prompt":
        return Rejected(INVALID)
    if _is_quota(code, message):
        return Rejected(QUOTA)
    return RunFailed(f"The run failed ({code or 'unknown'}).", retry_after=_named_wait(message))


def _connection(exc: Exception, cause: BaseException | None, *, creating: bool) -> ThreadbotError:
    if isinstance(cause, _BEFORE_SENDING):
        return Retryable(f"The engine cannot be reached: {cause!r}")
    return _lost(f"The connection to the engine broke: {cause or exc!r}", creating=creating)


def _status(exc: openai.APIStatusError, *, creating: bool) -> ThreadbotError:  # noqa: C901, PLR0911 - it is a table
    status, code, message = exc.status_code, exc.code or "", exc.message
    if code in {"thread_locked", "conversation_locked"} or (status in {400, 409} and _BUSY.search(message)):
        found = _BUSY.search(message)
        return ThreadBusy("The engine still works on this thread.", run=found[1] if found else None)
    match status:
        case 401:
            return Misconfigured("The engine rejects the API key (401): set OPENAI_API_KEY to a valid one.")
        case 403:
            return Misconfigured(
                "The API key may not do this (403): give it access to assistants, threads, runs and files."
            )
        case 404:
            return _missing(code, message)
        case 413:
            return Rejected(TOO_LARGE)
        case 429 if _is_quota(f"{code} {exc.type}", message):
            return Rejected(QUOTA)
        case 429:
            return Retryable("The engine is rate limited (429).", retry_after=_wait(exc))
        case 503 if _wait(exc) is not None:
            # A server that says when to come back did not begin.
            return Retryable("The engine is overloaded (503).", retry_after=_wait(exc))
        case 408 | 409:
            return _lost(f"The engine gave up ({status}).", creating=creating)
        case _ if status >= 500:
            return _lost(f"The engine failed ({status}).", creating=creating, retry_after=_wait(exc))
    if code == "context_length_exceeded" or "maximum context length" in message:
        return Rejected(TOO_LONG)
    if code == "model_not_found":
        return Misconfigured("The engine does not know the model: set THREADBOT_MODEL to one it offers.")
    return Rejected(INVALID if code in {"invalid_prompt", "content_filter"} else REFUSED)


def _missing(code: str, message: str) -> ThreadbotError:
    words = message.lower()
    if code == "model_not_found" or "model" in words:
        return Misconfigured("The engine does not know the model: set THREADBOT_MODEL to one it offers.")
    if "assistant" in words:
        return AssistantGone("The engine forgot the assistant.")
    if "file" in words:
        return Rejected(FILE_GONE)
    return ThreadGone("The engine forgot the thread.")


def _lost(message: str, *, creating: bool, retry_after: float | None = None) -> ThreadbotError:
    return Ambiguous(message) if creating else Retryable(message, retry_after=retry_after)


def _is_quota(code: str, message: str) -> bool:
    return "insufficient_quota" in code or "exceeded your current quota" in message.lower()


def _wait(exc: openai.APIStatusError) -> float | None:
    headers = exc.response.headers
    with contextlib.suppress(ValueError):
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
    if (after := headers.get("retry-after")) is not None:
        with contextlib.suppress(ValueError):
            return max(0.0, float(after))
        with contextlib.suppress(ValueError, TypeError):
            return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
    return _named_wait(exc.message)


def _named_wait(message: str) -> float | None:
    """Of "Please try again in 1m2.5s." the 62.5."""
    found = _AGAIN.search(message)
    if found is None or not any(found.groups()):
        return None
    part = {unit: float(count or 0) for unit, count in found.groupdict().items()}
    return part["h"] * 3600 + part["m"] * 60 + part["s"] + part["ms"] / 1000
