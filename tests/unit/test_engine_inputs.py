"""Nothing said is lost to the vendor's limits without the model being told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.domain import EngineFile, Exchange, Input
from bot.engines.inputs import CHARS, MESSAGES, PARTS, remembered, said, shortened


@given(st.integers(1, 200))
def test_any_number_of_inputs_fits_one_call_in_order(count: int) -> None:
    messages = said([Input(f"<{n}>") for n in range(count)], ())
    assert len(messages) <= MESSAGES
    assert "".join(m["content"] for m in messages).replace("\n", "") == "".join(
        f"<{n}>" for n in range(count)
    )


def test_a_text_that_is_too_long_keeps_both_ends_and_says_so() -> None:
    [message] = said([Input("begin" + "x" * CHARS + "end")], ())
    assert len(message["content"]) <= CHARS
    assert message["content"].startswith("begin")
    assert message["content"].endswith("end")
    assert "cut" in message["content"]


def test_a_text_that_fits_is_untouched() -> None:
    assert shortened("x" * CHARS) == "x" * CHARS


def test_files_without_words_are_a_message() -> None:
    [message] = said([Input("", (EngineFile("f", "a.pdf", "application/pdf"),))], ("file_search",))
    assert message["content"]
    assert message["attachments"] == [{"file_id": "f", "tools": [{"type": "file_search"}]}]


def test_more_files_than_a_message_takes_are_named() -> None:
    files = tuple(EngineFile(f"f{n}", f"{n}.png", "image/png") for n in range(12))
    [message] = said([Input("Look", files)], ())
    text, *images = message["content"]
    assert len(images) == PARTS - 1
    assert all(name in text["text"] for name in ("9.png", "10.png", "11.png"))


@given(st.lists(st.builds(Exchange, st.text(max_size=5), st.text(max_size=5)), max_size=60))
def test_any_transcript_fits_one_call(transcript: list[Exchange]) -> None:
    messages = remembered(transcript)
    assert len(messages) <= MESSAGES
    assert all(message["content"] for message in messages)


def test_what_is_older_than_a_call_takes_is_kept_shortened() -> None:
    messages = remembered([Exchange(f"q{n}", "a" * 50_000) for n in range(40)])
    assert len(messages) == 31
    assert len(messages[0]["content"]) == CHARS
    assert "They: q24" in messages[0]["content"]
    assert messages[1] == {"role": "user", "content": "q25"}
