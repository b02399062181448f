"""The offline brain: labelled, deterministic, honest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.local.arithmetic import calculate
from bot.local.brain import Finished, Prompt, TextDelta, ToolCall, ToolCallDelta, Turn
from bot.local.offline_brain import LABEL, OfflineBrain

WEATHER = {"type": "function", "function": {"name": "get_weather"}}


async def deltas(*turns: Turn, **options: object) -> list[object]:
    prompt = Prompt("m", "", turns, **options)  # type: ignore[arg-type]
    return [delta async for delta in OfflineBrain().think(prompt)]


async def said(*turns: Turn, **options: object) -> str:
    return "".join(delta.text for delta in await deltas(*turns, **options) if isinstance(delta, TextDelta))


def user(text: str, *files: str) -> Turn:
    return Turn("user", text, files)


async def test_it_says_what_it_is_and_how_to_get_a_model() -> None:
    answer = await said(user("How do I bake bread?"))
    assert answer.startswith(LABEL)
    assert "“How do I bake bread?”" in answer
    assert "THREADBOT_MODEL_URL" in answer


async def test_it_says_the_same_every_time_word_by_word() -> None:
    once = await deltas(user("tell me"))
    assert once == await deltas(user("tell me"))
    assert len(once) > 10
    assert isinstance(once[-1], Finished)


async def test_a_follow_up_quotes_what_came_before() -> None:
    answer = await said(user("My cat is Mimi."), Turn("assistant", "fine"), user("and now?"))
    assert "My cat is Mimi." in answer
    assert "message 2" in answer


async def test_it_calculates_also_where_a_speaker_is_named() -> None:
    assert await said(user("alice: 2*(3+4)")) == f"{LABEL} 2*(3+4) is 14."


async def test_it_names_attached_files() -> None:
    assert "plan.pdf, sums.csv" in await said(user("read this", "plan.pdf", "sums.csv"))


async def test_it_stops_at_the_token_limit_and_says_so() -> None:
    told = await deltas(user("go on"), max_completion_tokens=3)
    assert len(told) == 4
    assert isinstance(told[-1], Finished)
    assert told[-1].reason == "length"


async def test_it_calls_functions_asked_for_by_name_and_only_those_offered() -> None:
    text = (
        'please call get_weather {"city": "Paris"} and CALL get_weather {"city": "Rome"} and call rm {"x": 1}'
    )
    told = await deltas(user(text), functions=(WEATHER,))
    calls = [delta for delta in told if isinstance(delta, ToolCallDelta)]
    assert [(call.index, call.name, call.arguments) for call in calls] == [
        (0, "get_weather", '{"city": "Paris"}'),
        (1, "get_weather", '{"city": "Rome"}'),
    ]
    assert not any(isinstance(delta, TextDelta) for delta in told)


@pytest.mark.parametrize("text", ["call get_weather", "call get_weather {oops", "recall get_weather_x {}"])
async def test_it_calls_nothing_without_arguments(text: str) -> None:
    assert (await said(user(text), functions=(WEATHER,))).startswith(LABEL)


async def test_it_tells_what_a_function_returned() -> None:
    called = Turn("assistant", "", calls=(ToolCall("call_a", "get_weather", "{}", "sunny"),))
    assert "get_weather returned “sunny”" in await said(user("call get_weather {}"), called)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1 + 1", "2"), ("2*(3+4) =", "14"), ("7/2?", "3.5"), ("-2**3", "-8"), ("10 // 3 % 2", "1")],
)
def test_arithmetic_is_worked_out(text: str, value: str) -> None:
    assert calculate(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+b",
        "1/0",
        "9**9**9",
        "(-8)**0.5",
        "__import__('os')+1",
        "hello - world",
        "1 +",
        "(" * 190 + "-1",
    ],
)
def test_anything_else_is_not(text: str) -> None:
    assert calculate(text) is None


@given(st.text(alphabet="0123456789+-*/%(). e", max_size=60))
def test_no_expression_breaks_it(text: str) -> None:
    calculate(text)
