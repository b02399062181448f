"""Law 8: model output cannot ping."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.text import neutralise

PINGS = [
    "@everyone", "@here", "@channel", "@Everyone", "<!channel>", "<!here>", "<!everyone>", "<!here|here>",
    "<!subteam^S123>", "<!subteam^S123|@team>", "<@U0123ABC>", "<@W0123>", "<@U0123|bob>", "<@123456>",
    "<@!123456>", "<@&123456>",
]  # fmt: skip
TEXT = st.lists(st.sampled_from([*PINGS, "a", " ", "<", "@", ">", "`", "\n", "|"])).map("".join)


@pytest.mark.parametrize("ping", PINGS)
def test_a_ping_reads_the_same_but_is_none(ping: str) -> None:
    for text in (ping, f"```\n{ping}\n```", f"hi{ping}!"):
        safe = neutralise(text)
        assert ping not in safe
        assert safe.replace("\u200b", "") == text


@pytest.mark.parametrize(
    "text", ["<!DOCTYPE html>", "<!-- here -->", "List<@NotNull T>", "me@example.org", "<#C123>"]
)
def test_what_pings_nobody_stays_as_it_is(text: str) -> None:
    assert neutralise(text) == text


@given(TEXT)
def test_twice_is_once(text: str) -> None:
    assert neutralise(neutralise(text)) == neutralise(text)


@given(TEXT, st.integers(0, 100))
def test_more_text_only_appends(text: str, at: int) -> None:
    assert neutralise(text).startswith(neutralise(text[:at]))
