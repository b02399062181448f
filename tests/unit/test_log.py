"""Logs: events with fields for machines and for people, and never a token in them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import Misconfigured
from bot.log import configure, redact


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Other tests log as if this file had not run."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("slack_bolt", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_an_event_is_one_line_of_json_where_nobody_watches(out: io.StringIO) -> None:
    configure("info", out)
    structlog.get_logger().info("turn.answered", posts=2, first_text_s=1.4)
    (event,) = lines(out)
    assert event.pop("time").endswith("Z")
    assert event == {"event": "turn.answered", "level": "info", "posts": 2, "first_text_s": 1.4}


def test_an_event_is_readable_text_on_a_terminal() -> None:
    out = Terminal()
    configure("info", out)
    structlog.get_logger().info("turn.answered", posts=2)
    assert "turn.answered" in out.getvalue()
    assert "{" not in out.getvalue()


@pytest.mark.parametrize(("level", "heard"), [("debug", 4), ("info", 3), ("WARNING", 2), ("error", 1)])
def test_the_level_is_the_least_that_is_heard(out: io.StringIO, level: str, heard: int) -> None:
    configure(level, out)
    for method in ("debug", "info", "warning", "error"):
        getattr(structlog.get_logger(), method)("event")
    assert len(lines(out)) == heard


def test_a_level_that_is_none_is_said() -> None:
    with pytest.raises(Misconfigured, match="no log level 'loud': use debug, info"):
        configure("loud")


@pytest.mark.parametrize(
    "name", ["slack_sdk.web", "slack_bolt.App", "openai._base_client", "httpx2", "docket.worker"]
)
def test_libraries_are_heard_only_when_something_is_wrong(out: io.StringIO, name: str) -> None:
    configure("debug", out)
    logging.getLogger(name).debug("body: hello")
    logging.getLogger(name).info("body: hello")
    logging.getLogger(name).error("broken %s", "pipe")
    (event,) = lines(out)
    assert (event["event"], event["logger"], event["level"]) == ("broken pipe", name, "error")


def test_bolt_does_not_quote_events_that_nobody_handles(out: io.StringIO) -> None:
    configure("debug", out)
    logging.getLogger("slack_bolt.AsyncApp").warning("Unhandled request ({'text': 'hello'})")
    assert not lines(out)


def test_a_traceback_holds_no_values_of_variables(out: io.StringIO) -> None:
    for stream in (out, Terminal()):
        configure("info", stream)
        said_in_private = "so" + "mething private"
        try:
            _ = 1 / int(said_in_private == "")
        except ZeroDivisionError:
            structlog.get_logger().exception("thread.crashed")
            logging.getLogger("asyncio").exception("task crashed")
        assert stream.getvalue().count("Traceback (most recent call last)") == 2
        assert "something private" not in stream.getvalue()


def test_the_last_configuration_holds(out: io.StringIO) -> None:
    configure("info", io.StringIO())
    configure("info", out)
    logging.getLogger("asyncio").error("one")
    structlog.get_logger().error("two")
    assert [event["event"] for event in lines(out)] == ["one", "two"]


SECRETS = [
    "xoxb-123456789012-abcdefABCDEF",
    "xoxe.xoxp-1-Mi0yLTEyMzQ1Njc4",
    "xapp-1-A0123-4567-89abcdef",
    "sk-proj-abcdefghijklmnop",
    "Bearer abc.def-ghi",
    "MTIzNDU2Nzg5MDEyMzQ1Njc4OQ.GabcdE.abcdefghijklmnopqrstuvwxyz012345",
    "redis://user:hunter2secret@host/0",
    "password=hunter2secret",
    '"api_key": "hunter2secret"',
    "wss://wss-primary.slack.com/link/?ticket=hunter2secret&app_id=1",
    "{'token': 'hunter2secret'}",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_what_looks_like_a_secret_is_masked_wherever_it_hides(stream: type[io.StringIO], secret: str) -> None:
    out = stream()
    configure("info", out)
    log = structlog.get_logger()
    log.info("event", field=secret)
    log.info("event", nested={"list": [secret]})
    log.info("event %s", secret)
    log.info("event", several_lines=f"first\n{secret}\nlast")
    logging.getLogger("openai").error("failed with %s", secret)
    try:
        raise RuntimeError(secret)
    except RuntimeError:
        log.exception("event")
    for part in ("abcdef", "hunter2", "89abc", "Mi0y", "def-ghi"):
        assert part not in out.getvalue()


def test_a_field_with_a_secrets_name_is_masked_whatever_it_holds(out: io.StringIO) -> None:
    configure("info", out)
    structlog.get_logger().info(
        "event", bot_token="short", signing_secret=["x"], api_key=b"k", input_tokens=12, tokens=3
    )
    (event,) = lines(out)
    assert {event["bot_token"], event["signing_secret"], event["api_key"]} == {"***"}
    assert (event["input_tokens"], event["tokens"]) == (12, 3)


@pytest.mark.parametrize(
    "text",
    [
        "turn.answered posts=2 thread=slack:T1:C1:1700000000.000100",
        "https://slack.com/api/chat.postMessage",
        "task-scheduler risk-free Bot was mentioned",
        "unix:///tmp/redis.sock and redis://***@host:6379/0",
        "tokens=1200 first_text_s=0.3",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text())
def test_masking_twice_is_masking_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)
