"""Logs are events with fields: `turn.answered posts=2 first_text_s=1.4`, never what people wrote, never a token.

One line of JSON an event where nobody watches, coloured text on a terminal; on stderr, so that stdout is free for
answers. The libraries speak through the same door, and only from a warning up: at debug, Slack's and OpenAI's print
whole requests, with tokens and message texts.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

import structlog

from bot.errors import Misconfigured

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

# Libraries that would say too much at a warning: slack_bolt's "Unhandled request" quotes the event.
QUIETER = {"slack_bolt": logging.ERROR, "uvicorn.access": logging.ERROR}

HIDDEN = "***"
SECRET_KEY = re.compile(
    r"(?:^|_)(?:token|secret|password|authorization|cookie|ticket|api_?key)$", re.IGNORECASE
)

# A net below, not the rule: nobody logs these on purpose. Prefixes are the vendors':
# https://docs.slack.dev/authentication/tokens/ (xoxb-, xoxp-, xoxe, xapp-), OpenAI's sk-, and Discord's three parts.
SECRETS = re.compile(
    r"""
      (?P<keep> Bearer\s+ | Bot\s+(?=\S{20}) )\S+
    | (?<![\w-]) (?: xox[a-z](?:\.xox[a-z])?- | xapp- | sk- ) [\w.%-]{4,}
    | (?<![\w.-]) [\w-]{23,28}\.[\w-]{6,7}\.[\w-]{27,}
    | (?P<scheme> ://) [^\s/@"']* : [^\s/@"']+ @
    | (?P<name> \b(?:token|secret|password|ticket|api_?key) (?:\\?["'])? \s*[=:]\s* (?:\\?["'])? ) [^\s"'\\&,}]{6,}
    """,
    re.VERBOSE | re.IGNORECASE,
)


def redact(text: str) -> str:
    """The text without anything that looks like a token, key or password."""
    return SECRETS.sub(
        lambda found: (
            f"{found['keep'] or found['scheme'] or found['name'] or ''}{HIDDEN}{'@' if found['scheme'] else ''}"
        ),
        text,
    )


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Set up all logging of this process; the last call holds. Raises Misconfigured for a level that is none."""
    try:
        threshold = LEVELS[level.lower()]
    except KeyError:
        raise Misconfigured(f"There is no log level {level!r}: use {', '.join(LEVELS)}.") from None
    out = stream or sys.stderr
    render = _renderers(pretty=out.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            *COMMON,
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name, *COMMON],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(threshold, logging.WARNING))
    for name, least in QUIETER.items():
        logging.getLogger(name).setLevel(max(threshold, least))
    logging.captureWarnings(capture=True)


Event = MutableMapping[str, Any]
Processor = Callable[[Any, str, Event], Any]


def _redact_values(_logger: Any, _method: str, event: Event) -> Event:
    """Before rendering, where a value still has its edges: in JSON a line break becomes a letter."""
    return {key: HIDDEN if _names_secret(key, value) else _redacted(value) for key, value in event.items()}


def _names_secret(key: str, value: Any) -> bool:
    return bool(SECRET_KEY.search(key)) and not isinstance(value, bool | int | float | None)


def _redacted(value: Any) -> Any:
    match value:
        case str():
            return redact(value)
        case dict():
            return {
                key: HIDDEN if _names_secret(str(key), each) else _redacted(each)
                for key, each in value.items()
            }
        case tuple():  # also exc_info, which stays what it is
            return tuple(_redacted(each) for each in value)
        case list() | set() | frozenset():
            return [_redacted(each) for each in value]
    return value


def _redact_line(_logger: Any, _method: str, line: Any) -> str:
    return redact(line.decode() if isinstance(line, bytes) else str(line))


COMMON: list[Processor] = [
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
]


def _renderers(*, pretty: bool) -> list[Processor]:
    """Tracebacks as plain text: rich ones show local variables, which hold messages and tokens."""
    if pretty:
        console = structlog.dev.ConsoleRenderer(
            colors=True, timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
        )
        return [_redact_values, console, _redact_line]
    json = structlog.processors.JSONRenderer()
    return [structlog.processors.format_exc_info, _redact_values, json, _redact_line]
