"""Events come out of bytes however these are cut."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.engines.sse import Frame, StreamBroken, frames


async def read(*chunks: bytes) -> list[Frame]:
    async def arriving() -> AsyncGenerator[bytes, None]:
        for chunk in chunks:
            yield chunk

    return [frame async for batch in frames(arriving()) for frame in batch]


WIRE = (
    ": hello\n\n"
    'event: thread.run.created\ndata: {"id": "run_1"}\n\n'
    'event: x\ndata: {"text":\ndata: "zwei Zeilen 【é】"}\n\n'
    "data:{}\n\n"
    "id: 7\nretry: 3\n\n"
    "event: done\ndata: [DONE]\n\n"
)
FRAMES = [
    ("thread.run.created", {"id": "run_1"}),
    ("x", {"text": "zwei Zeilen 【é】"}),
    ("", {}),
    ("done", "[DONE]"),
]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@given(cuts=st.lists(st.integers(0, 240), max_size=12))
async def test_frames_are_the_same_however_the_bytes_are_cut(ending: str, cuts: list[int]) -> None:
    data = WIRE.replace("\n", ending).encode()
    edges = sorted({0, *(min(cut, len(data)) for cut in cuts), len(data)})
    assert await read(*(data[a:b] for a, b in itertools.pairwise(edges))) == FRAMES


async def test_a_frame_cut_short_by_the_end_is_dropped() -> None:
    assert await read(b'event: a\ndata: 1\n\nevent: b\ndata: {"x"') == [("a", 1)]


async def test_what_is_not_json_stays_text() -> None:
    assert await read(b"data: {oops\n\n", b"data: \xff\xfe\n\n") == [("", "{oops"), ("", "\ufffd\ufffd")]


async def test_an_event_without_end_breaks_the_stream() -> None:
    with pytest.raises(StreamBroken):
        await read(*[b"x" * (1 << 20)] * 40)


@given(st.text())
async def test_any_text_survives(text: str) -> None:
    assert await read(f"event: t\ndata: {json.dumps(text)}\n\n".encode()) == [("t", text)]
