"""The laws of mailbox and store, stated against any Redis; `test_mailbox.py` runs them, and mutants that break them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest

from bot.domain import Attachment, Author, Exchange, Message, Post, RunRef, ThreadKey, ThreadRef, Turn
from bot.errors import LeaseLost
from bot.mailbox import RedisMailroom
from bot.redis_client import RedisClient
from bot.scripts import ACTIVE, key
from bot.store import Lease, Store

THREAD = ThreadKey("slack", "T1", "C1", "1700000000.000100")
OTHER = ThreadKey("slack", "T1", "C1", "1700000000.000200")


@dataclass
class Rig:
    """One mailroom and one store on a Redis, and the bells that rang."""

    redis: RedisClient
    store: Store
    follows: bool = True
    bells: list[tuple[ThreadKey, str]] = field(default_factory=list)
    mailroom: RedisMailroom = field(init=False)

    def __post_init__(self) -> None:
        async def ring(thread: ThreadKey, cause: str) -> None:
            self.bells.append((thread, cause))

        self.mailroom = RedisMailroom(self.redis, ring=ring, follows=lambda _: self.follows)

    async def claim(self, thread: ThreadKey = THREAD) -> tuple[Lease, Turn]:
        claimed = await self.store.claim(thread)
        assert not isinstance(claimed, str), claimed
        return claimed


def message(id_: str = "1", text: str = "hello", thread: ThreadKey = THREAD, **more: object) -> Message:
    return replace(Message(id=id_, thread=thread, author=Author("U1", "Ann"), text=text), **more)  # type: ignore[arg-type]


def texts(turn: Turn | None) -> list[str]:
    assert turn is not None
    return [said.text for said in turn.messages]


ANSWERED = Exchange("hello", "hi")


async def a_message_is_stored_and_announced(rig: Rig) -> None:
    assert await rig.mailroom.put(message())
    assert rig.bells == [(THREAD, "1")]
    _, turn = await rig.claim()
    assert turn.messages == (message(),)
    assert turn.id == "1"
    assert not turn.resumed


async def a_duplicate_is_stored_once_and_announced_again(rig: Rig) -> None:
    assert await rig.mailroom.put(message())
    assert await rig.mailroom.put(message())
    assert len(rig.bells) == 2
    lease, turn = await rig.claim()
    assert texts(turn) == ["hello"]
    assert await rig.mailroom.put(message())
    assert await rig.store.finish(lease, turn, ANSWERED) is None


async def a_twin_that_brings_files_replaces_the_one_that_waits(rig: Rig) -> None:
    await rig.mailroom.put(message())
    await rig.mailroom.put(message(attachments=(Attachment("F1", "a.csv"),)))
    _, turn = await rig.claim()
    assert [file.id for file in turn.messages[0].attachments] == ["F1"]


async def what_waits_is_answered_together_in_order_of_arrival(rig: Rig) -> None:
    for number in range(20):
        await rig.mailroom.put(message(str(100 - number), f"line {number}"))
    _, turn = await rig.claim()
    assert texts(turn) == [f"line {number}" for number in range(20)]


async def one_turn_of_a_thread_at_a_time(rig: Rig) -> None:
    await rig.mailroom.put(message())
    claims = await asyncio.gather(*(rig.store.claim(THREAD) for _ in range(20)))
    assert sum(not isinstance(claim, str) for claim in claims) == 1
    assert {claim for claim in claims if isinstance(claim, str)} == {"busy"}


async def threads_do_not_wait_for_each_other(rig: Rig) -> None:
    await rig.mailroom.put(message())
    await rig.mailroom.put(message(thread=OTHER))
    await rig.claim()
    await rig.claim(OTHER)


async def a_message_during_a_turn_becomes_the_next_turn(rig: Rig) -> None:
    await rig.mailroom.put(message("1", "first"))
    lease, turn = await rig.claim()
    await rig.mailroom.put(message("2", "second"))
    await rig.mailroom.put(message("3", "third"))
    following = await rig.store.finish(lease, turn, ANSWERED)
    assert texts(following) == ["second", "third"]
    assert following is not None
    assert await rig.store.finish(lease, following, ANSWERED) is None
    assert await rig.store.claim(THREAD) == "empty"


async def nothing_is_stranded_between_the_last_read_and_the_release(rig: Rig) -> None:
    """Whoever puts while the holder gives back: either the holder takes it, or a claim finds it."""
    answered: list[str] = []
    for number in range(60):
        await rig.mailroom.put(message(f"{number}a", f"{number}a"))
        lease, turn = await rig.claim()
        (following, _) = await asyncio.gather(
            rig.store.finish(lease, turn, ANSWERED), rig.mailroom.put(message(f"{number}b", f"{number}b"))
        )
        answered += texts(turn)
        if following is None:
            lease, following = await rig.claim()
        answered += texts(following)
        assert await rig.store.finish(lease, following, ANSWERED) is None
    assert answered == [f"{number}{half}" for number in range(60) for half in "ab"]


async def a_redelivered_turn_carries_the_same_batch_and_its_progress(rig: Rig) -> None:
    await rig.mailroom.put(message("1", "first"))
    lease, turn = await rig.claim()
    progress = replace(
        turn,
        ref=ThreadRef("e", "thread_1"),
        run=RunRef("thread_1", "run_1"),
        attempt=1,
        posts=(Post("9", "stream"),),
    )
    await rig.store.save(lease, progress)
    await rig.mailroom.put(message("2", "second"))
    await rig.store.release([lease])
    _, again = await rig.claim()
    assert again == replace(progress, resumed=True, takeovers=1)


async def a_lost_lease_can_write_nothing(rig: Rig) -> None:
    await rig.mailroom.put(message())
    lease, turn = await rig.claim()
    await rig.store.release([lease])
    second, again = await rig.claim()
    with pytest.raises(LeaseLost):
        await rig.store.save(lease, replace(turn, posts=(Post("stale"),)))
    with pytest.raises(LeaseLost):
        await rig.store.finish(lease, turn, ANSWERED)
    await rig.store.release([lease])
    assert await rig.store.renew([lease]) == [lease]
    assert await rig.store.claim(THREAD) == "busy", "a stale release must not free the new holder's lease"
    assert await rig.store.renew([second]) == []
    await rig.store.save(second, again)


async def a_dead_workers_thread_is_taken_over(rig: Rig) -> None:
    await rig.mailroom.put(message())
    await rig.claim()
    due: list[ThreadKey] = []
    async with asyncio.timeout(10):
        while not due:
            due = [thread for thread, _ in await rig.store.due()]
            await asyncio.sleep(0.02)
        while isinstance(claimed := await rig.store.claim(THREAD), str):
            await asyncio.sleep(0.02)
    assert claimed[1].resumed


async def a_lease_that_ran_out_unseen_is_ours_again_unless_somebody_took_it(rig: Rig) -> None:
    await rig.mailroom.put(message())
    lease, turn = await rig.claim()
    await rig.redis.delete(f"tb:{{{THREAD}}}:lease")
    assert await rig.store.renew([lease]) == []
    await rig.store.save(lease, turn)
    await rig.redis.delete(f"tb:{{{THREAD}}}:lease")
    await rig.claim()
    assert await rig.store.renew([lease]) == [lease]


async def what_was_given_back_is_not_taken_back_by_a_late_renewal(rig: Rig) -> None:
    await rig.mailroom.put(message())
    lease, _ = await rig.claim()
    await rig.store.release([lease])
    assert await rig.store.renew([lease]) == [lease]
    await rig.claim()


async def every_change_may_be_sent_twice(rig: Rig) -> None:
    """An answer that gets lost makes the client send again, also after the first copy was done."""
    once = rig.redis.evalsha

    async def twice(*call: object) -> object:
        await once(*call)  # type: ignore[arg-type]
        return await once(*call)  # type: ignore[arg-type]

    await rig.mailroom.put(message("0", "warm up"))
    lease, turn = await rig.claim()
    await rig.store.save(lease, turn)
    await rig.store.finish(lease, turn, ANSWERED)
    rig.redis.evalsha = twice  # type: ignore[assignment]
    await rig.mailroom.put(message("1", "first"))
    lease, turn = await rig.claim()
    await rig.mailroom.put(message("2", "second"))
    await rig.store.save(lease, replace(turn, posts=(Post("9"),)))
    following = await rig.store.finish(lease, turn, ANSWERED)
    assert texts(following) == ["second"]
    assert following is not None
    assert following.posts == ()
    assert len(await rig.store.transcript(THREAD)) == 2
    with suppress(LeaseLost):  # the first copy gave the lease back
        await rig.store.finish(lease, following, ANSWERED)
    assert await rig.store.claim(THREAD) == "empty"
    assert len(await rig.store.transcript(THREAD)) == 3


async def a_late_save_does_not_reach_the_next_turn(rig: Rig) -> None:
    await rig.mailroom.put(message("1"))
    lease, turn = await rig.claim()
    await rig.mailroom.put(message("2"))
    await rig.store.finish(lease, turn, ANSWERED)
    await rig.store.save(lease, replace(turn, posts=(Post("of the first turn"),)))
    await rig.store.release([lease])
    _, following = await rig.claim()
    assert following.posts == ()


async def a_turn_nobody_can_read_is_put_aside_and_the_thread_goes_on(rig: Rig) -> None:
    await rig.mailroom.put(message("1"))
    lease, _ = await rig.claim()
    await rig.redis.hset(key(THREAD, "turn"), "batch", "[nonsense")
    await rig.store.release([lease])
    await rig.mailroom.put(message("2", "next"))
    assert texts((await rig.claim())[1]) == ["next"]
    assert await rig.redis.exists(key(THREAD, "parked"))


async def a_thread_is_looked_after_until_its_holder_leaves_and_no_longer(rig: Rig) -> None:
    await rig.mailroom.put(message())
    lease, turn = await rig.claim()
    assert await rig.redis.zscore(ACTIVE, str(THREAD)) == pytest.approx(lease.score)
    await rig.store.forget(THREAD, lease.score + 1)
    assert await rig.redis.zscore(ACTIVE, str(THREAD)) is not None, "somebody else looked at it since"
    await rig.store.finish(lease, turn, ANSWERED)
    assert await rig.redis.zscore(ACTIVE, str(THREAD)) is None


async def takeovers_are_counted(rig: Rig) -> None:
    await rig.mailroom.put(message())
    for number in range(3):
        lease, turn = await rig.claim()
        assert (turn.takeovers, turn.resumed) == (number, number > 0)
        await rig.store.release([lease])


async def many_leases_are_renewed_together(rig: Rig) -> None:
    threads = [replace(THREAD, root=str(number)) for number in range(200)]
    for thread in threads:
        await rig.mailroom.put(message(thread=thread))
    leases = [(await rig.claim(thread))[0] for thread in threads]
    before = [lease.renewed_at for lease in leases]
    assert await rig.store.renew(leases) == []
    assert all(lease.renewed_at > earlier for lease, earlier in zip(leases, before, strict=True))


async def a_line_in_a_foreign_thread_is_not_for_us(rig: Rig) -> None:
    assert not await rig.mailroom.put(message(addressed=False))
    assert rig.bells == []
    assert await rig.store.claim(THREAD) == "empty"


async def a_follow_up_needs_no_mention_where_the_channel_says_so(rig: Rig) -> None:
    await rig.mailroom.put(message("1"))
    assert await rig.mailroom.put(message("2", addressed=False))
    rig.follows = False
    assert not await rig.mailroom.put(message("3", addressed=False))
    assert texts((await rig.claim())[1]) == ["hello", "hello"]


async def a_follow_up_that_overtakes_its_mention_is_answered_with_it(rig: Rig) -> None:
    for id_ in ("09", "12", "11"):
        assert not await rig.mailroom.put(message(id_, f"line {id_}", addressed=False, opens=False))
    assert await rig.mailroom.put(message("10", "mention"))
    assert await rig.mailroom.put(message("12", "line 12", addressed=False, opens=False))  # delivered again
    lease, turn = await rig.claim()
    assert texts(turn) == ["mention", "line 11", "line 12"], "what was said before the mention is not for us"
    assert await rig.store.finish(lease, turn, ANSWERED) is None
    assert not await rig.redis.exists(key(THREAD, "early"))


async def a_line_that_waits_for_its_mention_waits_for_minutes_only(rig: Rig) -> None:
    await rig.mailroom.put(message("11", addressed=False, opens=False))
    await rig.mailroom.put(
        message("12", addressed=False)
    )  # of a channel: nobody can follow up on it with a mention
    assert await rig.redis.llen(key(THREAD, "early")) == 1
    for number in range(100):
        await rig.mailroom.put(message(str(20 + number), thread=OTHER, addressed=False, opens=False))
    assert await rig.redis.llen(key(OTHER, "early")) == 20, (
        "a busy thread that is not ours is no memory of ours"
    )
    assert 0 < await rig.redis.ttl(key(THREAD, "early")) <= 600
    await rig.mailroom.withdraw(THREAD, "11")
    await rig.mailroom.put(message("10", "mention"))
    assert texts((await rig.claim())[1]) == ["mention"]


async def an_edit_while_waiting_is_what_gets_answered(rig: Rig) -> None:
    await rig.mailroom.put(message("1", "old"))
    assert await rig.mailroom.amend(THREAD, "1", "new")
    lease, turn = await rig.claim()
    assert texts(turn) == ["new"]
    assert not await rig.mailroom.amend(THREAD, "1", "too late")
    assert await rig.store.finish(lease, turn, ANSWERED) is None


async def a_deletion_while_waiting_is_not_answered(rig: Rig) -> None:
    await rig.mailroom.put(message("1", "keep"))
    await rig.mailroom.put(message("2", "drop"))
    assert await rig.mailroom.withdraw(THREAD, "2")
    await rig.mailroom.put(message("2", "drop"))
    lease, turn = await rig.claim()
    assert texts(turn) == ["keep"]
    assert await rig.store.finish(lease, turn, ANSWERED) is None
    assert await rig.mailroom.withdraw(THREAD, "3") is False
    assert await rig.store.claim(THREAD) == "empty"


async def stop_reaches_the_holder_and_drops_what_waits(rig: Rig) -> None:
    assert not await rig.mailroom.stop(THREAD)
    await rig.mailroom.put(message("1"))
    lease, turn = await rig.claim()
    await rig.mailroom.put(message("2"))
    assert await rig.mailroom.stop(THREAD)
    assert await rig.store.renew([lease]) == []
    assert lease.stopped == turn.id
    await rig.store.release([lease])
    lease, turn = await rig.claim()
    assert turn.stopped
    assert await rig.store.finish(lease, turn, ANSWERED) is None


async def stop_without_a_thread_reaches_all_of_the_channel_and_no_other(rig: Rig) -> None:
    elsewhere = replace(THREAD, channel="C10")
    leases = []
    for thread in (THREAD, OTHER, elsewhere):
        await rig.mailroom.put(message(thread=thread))
        leases.append((await rig.claim(thread))[0])
    assert await rig.mailroom.stop(replace(THREAD, root=""))
    assert await rig.store.renew(leases) == []
    assert [bool(lease.stopped) for lease in leases] == [True, True, False]
    assert not await rig.mailroom.stop(replace(THREAD, channel="C9", root=""))


async def a_finished_thread_leaves_its_map_and_transcript_and_nothing_else(rig: Rig) -> None:
    await rig.mailroom.put(message())
    lease, turn = await rig.claim()
    await rig.store.save(lease, replace(turn, ref=ThreadRef("e", "thread_1")))
    await rig.store.finish(lease, turn, ANSWERED)
    assert await rig.store.transcript(THREAD) == (ANSWERED,)
    left = {name.decode().rsplit(":", 1)[-1] async for name in rig.redis.scan_iter(match="tb:*")}
    assert left == {"head", "log", "1"}, "thread map, transcript, and the message remembered as seen"
    for name in [name async for name in rig.redis.scan_iter(match="tb:*")]:
        assert await rig.redis.ttl(name) > 0, f"{name!r} would stay for ever"
    await rig.mailroom.put(message("2"))
    assert (await rig.claim())[1].ref == ThreadRef("e", "thread_1")


Law = Callable[[Rig], Awaitable[None]]
LAWS: tuple[Law, ...] = (
    a_message_is_stored_and_announced,
    a_duplicate_is_stored_once_and_announced_again,
    a_twin_that_brings_files_replaces_the_one_that_waits,
    what_waits_is_answered_together_in_order_of_arrival,
    one_turn_of_a_thread_at_a_time,
    threads_do_not_wait_for_each_other,
    a_message_during_a_turn_becomes_the_next_turn,
    nothing_is_stranded_between_the_last_read_and_the_release,
    a_redelivered_turn_carries_the_same_batch_and_its_progress,
    a_lost_lease_can_write_nothing,
    a_dead_workers_thread_is_taken_over,
    a_lease_that_ran_out_unseen_is_ours_again_unless_somebody_took_it,
    what_was_given_back_is_not_taken_back_by_a_late_renewal,
    every_change_may_be_sent_twice,
    a_late_save_does_not_reach_the_next_turn,
    a_turn_nobody_can_read_is_put_aside_and_the_thread_goes_on,
    a_thread_is_looked_after_until_its_holder_leaves_and_no_longer,
    takeovers_are_counted,
    many_leases_are_renewed_together,
    a_line_in_a_foreign_thread_is_not_for_us,
    a_follow_up_needs_no_mention_where_the_channel_says_so,
    a_follow_up_that_overtakes_its_mention_is_answered_with_it,
    a_line_that_waits_for_its_mention_waits_for_minutes_only,
    an_edit_while_waiting_is_what_gets_answered,
    a_deletion_while_waiting_is_not_answered,
    stop_reaches_the_holder_and_drops_what_waits,
    stop_without_a_thread_reaches_all_of_the_channel_and_no_other,
    a_finished_thread_leaves_its_map_and_transcript_and_nothing_else,
)
