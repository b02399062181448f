"""What a listening client of a run is sent."""

import pytest

from bot.local import live
from bot.local.live import Outbox
from bot.local.wire import KEEP_ALIVE, text_delta, text_delta_head


async def test_what_piled_up_goes_out_together_and_in_order() -> None:
    outbox = Outbox()
    for number in range(5):
        outbox.put(str(number).encode())
    outbox.close()
    assert [bunch async for bunch in outbox.bunches()] == [b"01234"]


async def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "KEEP_ALIVE_SECONDS", 0.01)
    outbox = Outbox()
    bunches = outbox.bunches()
    assert await anext(bunches) == KEEP_ALIVE
    outbox.put(b"x")
    assert await anext(bunches) == b"x"
    assert await anext(bunches) == KEEP_ALIVE
    outbox.close()
    assert [bunch async for bunch in bunches] == []


@pytest.mark.parametrize("text", ["x", 'a "quote"', "line\nline\r\n\n", "\u2028", "\ud800", "😀"])
def test_a_delta_is_one_frame_whatever_it_says(text: str) -> None:
    data = text_delta(text_delta_head("msg_1"), text)
    assert data.isascii()
    assert data.endswith(b"\n\n")
    assert data.count(b"\n") == 3
