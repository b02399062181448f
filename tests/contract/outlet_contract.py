"""The laws of an Outlet, whatever the platform; `test_outlet_laws.py` runs them, and mutants that break them.

A new platform joins with one `World`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

import pytest

from bot.domain import Post, ToolKind, Turn
from bot.errors import Ambiguous
from bot.ports import Outlet


class World(Protocol):
    """A platform, and an outlet that speaks there."""

    outlet: Outlet

    def turn(self) -> Turn:
        """Somebody asked: a turn in a thread of its own."""
        ...

    def another(self) -> Outlet:
        """The outlet of another process, which knows nothing of this one's posts."""
        ...

    def texts(self, turn: Turn) -> list[str]:
        """What people see in the turn's thread, a text for each post, oldest first."""
        ...

    def files(self, turn: Turn) -> list[bytes]: ...

    def cut_next_open(self) -> None:
        """The next post is made, but its answer gets lost. Only where `remote`."""
        ...

    def go_away(self) -> None: ...

    remote: bool  # an answer can get lost, and a process can find another's posts


async def a_growing_text_is_shown_as_it_is(world: World) -> None:
    turn = world.turn()
    post = await world.outlet.open(turn, "One", "live")
    assert world.texts(turn) == ["One"]
    post = await world.outlet.edit(turn, post, "One two", "live")
    assert world.texts(turn) == ["One two"]
    post = await world.outlet.edit(turn, post, "One two three", "last")
    assert world.texts(turn) == ["One two three"]


async def the_same_text_again_changes_nothing(world: World) -> None:
    turn = world.turn()
    post = await world.outlet.open(turn, "One", "live")
    for _ in range(3):
        post = await world.outlet.edit(turn, post, "One", "live")
    for _ in range(2):
        post = await world.outlet.edit(turn, post, "One", "last")
    assert world.texts(turn) == ["One"]


async def a_changed_text_ends_up_as_it_is(world: World) -> None:
    turn = world.turn()
    post = await world.outlet.open(turn, "One thousand", "live")
    post = await world.outlet.edit(turn, post, "Two", "live")
    await world.outlet.edit(turn, post, "Two.", "last")
    assert world.texts(turn)[-1] == "Two."


async def an_answer_of_several_posts_keeps_their_order(world: World) -> None:
    turn = world.turn()
    first = await world.outlet.open(turn, "One", "live")
    await world.outlet.edit(turn, first, "One.", "sealed")
    second = await world.outlet.open(turn, "Two", "live")
    assert first.id != second.id
    await world.outlet.edit(turn, second, "Two.", "last")
    assert world.texts(turn) == ["One.", "Two."]


async def the_longest_post_is_shown_whole(world: World) -> None:
    turn = world.turn()
    text = ("word " * world.outlet.limits.post_chars)[: min(world.outlet.limits.post_chars, 50_000) - 1] + "."
    post = await world.outlet.open(turn, text[:1000], "live")
    await world.outlet.edit(turn, post, text, "last")
    assert world.texts(turn) == [text]


async def another_process_goes_on_in_the_same_post(world: World) -> None:
    turn = world.turn()
    post = await world.outlet.open(turn, "Half an", "live")
    other = world.another()
    try:
        if world.remote:
            assert [found.id for found in await other.find(replace(turn, posts=()))] == [post.id]
        await other.edit(turn, post, "Half an answer, and the rest.", "last")
    finally:
        await other.close()
    assert world.texts(turn)[-1].endswith("Half an answer, and the rest.")
    if world.remote:
        assert len(world.texts(turn)) == 1


async def a_post_whose_answer_got_lost_is_found(world: World) -> None:
    if not world.remote:
        return
    for stage in ("live", "last"):
        turn = world.turn()
        world.cut_next_open()
        with pytest.raises(Ambiguous):
            await world.outlet.open(turn, "One", stage)
        (found,) = await world.outlet.find(turn)
        await world.outlet.edit(turn, found, "One two", "last")
        assert world.texts(turn) == ["One two"]


async def posts_of_another_turn_are_not_found(world: World) -> None:
    turn = world.turn()
    await world.outlet.open(turn, "One", "last")
    assert await world.outlet.find(world.turn()) == ()


async def a_post_can_be_taken_back_twice(world: World) -> None:
    turn = world.turn()
    post = await world.outlet.open(turn, "One", "live")
    await world.outlet.remove(post, turn.thread)
    await world.outlet.remove(post, turn.thread)
    if world.remote:
        assert world.texts(turn) == []


async def activity_never_raises_and_never_speaks(world: World) -> None:
    turn = world.turn()
    for tool in (None, *ToolKind):
        await world.outlet.activity(turn, tool, working=True)
    await world.outlet.activity(turn, None, working=False)
    assert world.texts(turn) == []
    world.go_away()
    await world.outlet.activity(turn, None, working=True)
    await world.outlet.activity(turn, None, working=False)


async def a_file_arrives_whole(world: World) -> None:
    turn = world.turn()
    assert await world.outlet.upload(turn, "chart.png", "image/png", b"\x89PNG" * 1000)
    assert world.files(turn) == [b"\x89PNG" * 1000]


async def a_post_survives_json(world: World) -> None:
    """It is stored between two processes: nothing but its two texts may matter."""
    turn = world.turn()
    post = await world.outlet.open(turn, "One", "live")
    await world.outlet.edit(turn, Post(str(post.id), str(post.kind)), "One two", "last")
    assert world.texts(turn) == ["One two"]


Law = Callable[[World], Awaitable[None]]
LAWS: tuple[Law, ...] = (
    a_growing_text_is_shown_as_it_is,
    the_same_text_again_changes_nothing,
    a_changed_text_ends_up_as_it_is,
    an_answer_of_several_posts_keeps_their_order,
    the_longest_post_is_shown_whole,
    another_process_goes_on_in_the_same_post,
    a_post_whose_answer_got_lost_is_found,
    posts_of_another_turn_are_not_found,
    a_post_can_be_taken_back_twice,
    activity_never_raises_and_never_speaks,
    a_file_arrives_whole,
    a_post_survives_json,
)
