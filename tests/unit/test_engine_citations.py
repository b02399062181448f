"""Readers see no markers and no links into the vendor's sandbox, neither while it streams nor at the end."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain import Citation
from bot.engines.citations import StreamCleaner, cleaned

DIRTY = [
    ("Ask first【4:0†source】.", "Ask first."),
    ("Ask【12†handbook.md】【3:1†source】 now", "Ask now"),
    ("Ask\ue200cite\ue202turn0file0\ue201 now", "Ask now"),
    ("See [the chart](sandbox:/mnt/data/chart.png)!", "See the chart!"),
    ("![plot](sandbox:/mnt/data/a b.png) is it", "plot is it"),
    ("Saved as sandbox:/mnt/data/out/table.csv now", "Saved as table.csv now"),
]
CLEAN = [
    "【重要】 read [this](https://example.org) and [x] do",
    "a list:\n- [ ] one\n- [x] two",
    "array[0] = s[1]; sand, sandbox, san",
    "open 【 and 【4 and [ and ](",
]


@pytest.mark.parametrize(("text", "expected"), DIRTY)
def test_markers_and_links_are_cleaned(text: str, expected: str) -> None:
    assert cleaned(text, []).text == expected


@pytest.mark.parametrize("text", CLEAN)
def test_everything_else_stays(text: str) -> None:
    assert cleaned(text, []).text == text


@given(st.sampled_from([text for text, _ in DIRTY] + CLEAN), st.lists(st.integers(0, 60), max_size=20))
def test_a_stream_shows_a_beginning_of_the_clean_text_however_it_is_cut(text: str, cuts: list[int]) -> None:
    edges = sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})
    cleaner, shown = StreamCleaner(), ""
    for start, end in itertools.pairwise(edges):
        shown += cleaner.add(text[start:end])
        # A `!` before a link may already stand when its `[` arrives.
        assert cleaned(text, []).text.startswith(shown.removesuffix("!")) or shown.startswith("!")
    assert not re.search(r"†|sandbox:/|\ue200", shown)


@given(st.text(alphabet="abc \n.sand", max_size=40))
def test_ordinary_text_is_held_for_no_longer_than_its_last_word(text: str) -> None:
    cleaner = StreamCleaner()
    shown = "".join(cleaner.add(letter) for letter in text)
    assert text.startswith(shown)
    assert len(text) - len(shown) <= len("sand")


def citation(text: str, start: int, file: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "file_citation",
        "text": text,
        "start_index": start,
        "end_index": start + len(text),
        "file_citation": {"file_id": file, **more},
    }


def test_sources_are_numbered_by_first_appearance_and_quoted() -> None:
    text = "B【1:0†b.md】 then A【2:0†source】 then B【1:0†b.md】."
    notes = [citation("【2:0†source】", 20, "f-a"), citation("【1:0†b.md】", 1, "f-b", quote="so it is")]
    notes.append(citation("【1:0†b.md】", text.rindex("【"), "f-b"))
    clean = cleaned(text, notes)
    assert clean.text == "B [1] then A [2] then B [1]."
    assert clean.citations == (Citation("[1]", "f-b", "b.md", "so it is"), Citation("[2]", "f-a"))


def test_a_source_said_twice_in_a_row_is_said_once() -> None:
    text = "B【1:0†source】【1:1†source】."
    notes = [citation("【1:0†source】", 1, "f"), citation("【1:1†source】", 12, "f")]
    assert cleaned(text, notes).text == "B [1]."


@pytest.mark.parametrize("shift", [-1, 3, 500])
def test_a_span_that_is_off_is_found_by_its_text(shift: int) -> None:
    text = "😀 B【1:0†source】."
    clean = cleaned(text, [citation("【1:0†source】", max(0, 3 + shift), "f")])
    assert clean.text == "😀 B [1]."


def test_a_span_that_is_nowhere_is_ignored() -> None:
    assert cleaned("B.", [citation("【9:9†source】", 1, "f")]).text == "B."


def test_linked_files_are_named_by_their_path() -> None:
    text = "[it](sandbox:/mnt/data/x.csv)"
    note = {
        "type": "file_path",
        "text": "sandbox:/mnt/data/x.csv",
        "start_index": 5,
        "end_index": 28,
        "file_path": {"file_id": "f"},
    }
    clean = cleaned(text, [note])
    assert clean.text == "it"
    assert clean.files == (("f", "x.csv"),)
