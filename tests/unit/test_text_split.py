"""Law 7: long answers arrive whole."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.text import Splitter, split

WORD = st.text("abcdefgh", min_size=1, max_size=12)
SENTENCE = st.lists(WORD, min_size=1, max_size=12).map(lambda words: " ".join(words) + ".")
PARAGRAPH = st.lists(SENTENCE, min_size=1, max_size=5).map(" ".join)
ITEMS = st.lists(SENTENCE, min_size=1, max_size=5).map(lambda ones: "\n".join(f"- {one}" for one in ones))
CODE_LINE = st.one_of(st.just(""), SENTENCE, SENTENCE.map(lambda line: "    " + line))


@st.composite
def fences(draw: st.DrawFn) -> str:
    mark = draw(st.sampled_from(["```", "~~~", "`````"]))
    indent = " " * draw(st.integers(0, 3))
    info = draw(st.sampled_from(["", "py", "python title=x"]))
    lines = draw(st.lists(CODE_LINE, max_size=8))
    return "\n".join([f"{indent}{mark}{info}", *lines, f"{indent}{mark}"])


@st.composite
def tables(draw: st.DrawFn) -> str:
    rows = draw(st.lists(st.tuples(WORD, WORD), min_size=1, max_size=8))
    return "\n".join(["| k | v |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)])


DOCUMENT = st.lists(st.one_of(PARAGRAPH, ITEMS, fences(), tables()), max_size=8).map("\n\n".join)
NASTY = st.text(st.sampled_from(list("ab .\n\n`~|-:>#* 1👩\u200d🔬é\u0301🇩🇪\r\t")), max_size=300)
TEXT = st.one_of(DOCUMENT, NASTY)
LIMIT = st.one_of(st.integers(60, 200), st.integers(1, 60))


@given(TEXT, LIMIT)
def test_parts_keep_the_limit_and_say_something(text: str, limit: int) -> None:
    parts = split(text, limit)
    assert all(len(part) <= limit and part.strip() for part in parts)
    if len(text) <= limit:
        assert parts == ([text] if text.strip() else [])


def characters(text: str) -> str:
    return re.sub(r"\s", "", text)


@given(st.text(st.sampled_from(list("ab .\n👩\u200d🔬")), max_size=300), LIMIT)
def test_plain_text_loses_only_white_space(text: str, limit: int) -> None:
    assert characters("".join(split(text, limit))) == characters(text)


REPEATED = re.compile(r"^ *(`{3,}|~{3,}).*$|^\| k \| v \|$|^\|---\|---\|$", re.MULTILINE)


TABLE_AND_FENCE = (
    "a.\n\n```\n```\n\n| k | v |\n|---|---|\n"
    + "| a | a |\n" * 7
    + "| aa | aaaaaaaaa |\n\n  `````python title=x\n  `````"
)
"""Once cut within the line that opens the fence."""


@given(DOCUMENT, st.integers(60, 200))
@example(TABLE_AND_FENCE, 60)
def test_without_the_repeated_lines_the_parts_are_the_text(text: str, limit: int) -> None:
    joined = "\n".join(split(text, limit))
    assert characters(REPEATED.sub("", joined)) == characters(REPEATED.sub("", text))
    assert len(REPEATED.findall(joined)) >= len(REPEATED.findall(text))


def fences_left_open(part: str) -> int:
    mark = ""
    for line in part.split("\n"):
        found = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if found and not mark:
            mark = found[1]
        elif found and found[1].startswith(mark) and not line.strip().strip(mark[0]):
            mark = ""
    return bool(mark)


@given(DOCUMENT, st.integers(60, 200))
def test_fences_are_balanced_in_every_part(text: str, limit: int) -> None:
    assert not any(fences_left_open(part) for part in split(text, limit))


@settings(max_examples=300)
@given(TEXT, st.integers(0, 300), LIMIT)
def test_a_part_is_final_once_another_follows(text: str, at: int, limit: int) -> None:
    before, after = split(text[:at], limit), split(text, limit)
    final = before[:-1]
    assert after[: len(final)] == final


@settings(max_examples=300)
@given(TEXT, st.lists(st.integers(0, 600), max_size=20), LIMIT)
def test_feeding_piece_by_piece_is_splitting(text: str, stops: list[int], limit: int) -> None:
    splitter = Splitter(limit)
    for stop in sorted(stops):
        assert splitter.feed(text[:stop]) == split(text[:stop], limit)
    assert splitter.feed(text) == split(text, limit)


def test_a_text_that_was_replaced_is_split_anew() -> None:
    splitter = Splitter(20)
    splitter.feed("one two three four five six")
    assert splitter.feed("seven eight nine ten eleven") == split("seven eight nine ten eleven", 20)


def test_breaks_at_blocks_then_lines_then_sentences_then_words() -> None:
    assert split("aaaa aaaa aaaa\n\nbbbb\nbbbb", 20) == ["aaaa aaaa aaaa", "bbbb\nbbbb"]
    assert split("aaaa aaaa aaaa\nbbbb bbbb", 20) == ["aaaa aaaa aaaa", "bbbb bbbb"]
    assert split("Aaaa aaaa aa. Bbbb bbbb", 20) == ["Aaaa aaaa aa.", "Bbbb bbbb"]
    assert split("aaaa aaaa aaaa bbbb bbbb", 20) == ["aaaa aaaa aaaa bbbb", "bbbb"]
    assert split("a" * 25, 20) == ["a" * 20, "a" * 5]


def test_a_fence_is_closed_and_opened_again() -> None:
    lines = "\n".join(f"line {n}" for n in range(10))
    parts = split(f"```py\n{lines}\n```\n\nDone.", 45)
    assert parts[0].startswith("```py\nline 0\n")
    assert parts[0].endswith("\n```")
    assert parts[1].startswith("```py\nline 5\n")
    assert parts[-1].endswith("Done.")


def test_a_fence_that_fits_is_not_cut() -> None:
    fence = "```\n" + "x = 1\n" * 5 + "```"
    assert split("Some words of introduction here.\n" + fence, 60) == [
        "Some words of introduction here.",
        fence,
    ]


def test_code_keeps_its_indentation_at_a_cut() -> None:
    parts = split("```py\ndef one():\n    return 1\n\ndef two():\n    return 2\n```", 38)
    assert parts == ["```py\ndef one():\n    return 1\n\n```", "```py\ndef two():\n    return 2\n```"]


def test_a_fence_deep_in_a_list_goes_on_at_the_margin() -> None:
    text = "1. one\n   - two\n     ```py\n" + "     call()\n" * 6 + "     ```\n   - three"
    parts = split(text + " and some more words", 70)
    assert parts[0].endswith("\n     call()\n     ```")
    assert parts[1].startswith("```py\ncall()\n")
    assert parts[1].endswith("call()\n```")
    assert parts[2].startswith("   - three")


def test_a_fence_in_a_quote_stays_in_the_quote() -> None:
    parts = split("> ```\n" + "> code code\n" * 6 + "> ```", 50)
    assert all(part.startswith("> ```\n") and part.endswith("\n> ```") for part in parts)


def test_a_table_that_fits_is_moved_whole() -> None:
    table = "| k | v |\n|---|---|\n| a | b |\n| c | d |"
    assert split(f"Look here:\n\n{table}\n\nThat was it.", 50) == ["Look here:", table, "That was it."]


def test_a_long_table_repeats_its_head() -> None:
    head = "| k | v |\n|---|---|\n"
    rows = [f"| {n} | {n} |" for n in range(10, 22)]
    parts = split(head + "\n".join(rows), 60)
    assert len(parts) > 1
    assert all(part.startswith(head) for part in parts)
    assert [row for part in parts for row in part.removeprefix(head).split("\n")] == rows


def test_a_table_ends_before_the_paragraph_behind_it() -> None:
    head = "| k | v |\n|---|---|\n"
    parts = split(head + "| a | b |\n" * 4 + "\nNo table any more, just words that go on.", 65)
    assert parts[-1] == "No table any more, just words that go on."


@pytest.mark.parametrize("cluster", ["👩\u200d🔬", "e\u0301", "🇩🇪", "👍🏽", "\ud83d\ude00"])
def test_emoji_and_accents_are_not_cut(cluster: str) -> None:
    for part in split(cluster * 30, 21):
        assert part == cluster * (len(part) // len(cluster))


def test_a_hundred_thousand_characters_streamed_cost_little() -> None:
    text = ("Some words of a sentence that goes on.\n" * 8 + "```py\n" + "call()\n" * 20 + "```\n\n") * 250
    for limit in (2000, 1_000_000):
        splitter = Splitter(limit)
        began = time.process_time()
        for end in range(0, len(text), 20):
            splitter.feed(text[:end])
        assert time.process_time() - began < 3


@pytest.mark.parametrize(
    "line", ["> " * 30_000, "- " * 30_000, "|-" * 30_000, " " * 60_000, "`" * 60_000, "-" * 60_000]
)
def test_no_text_is_slow(line: str) -> None:
    began = time.process_time()
    parts = split(f"a | b\n{line}x\n{line}", 4000)
    assert time.process_time() - began < 2
    assert all(len(part) <= 4000 for part in parts)


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one character"):
        Splitter(0)
