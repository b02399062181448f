"""Mailbox and store keep their laws on every kind of Redis, and the laws catch those who do not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from _pytest.outcomes import Failed

import bot.mailbox
import bot.store
from bot.errors import LeaseLost
from bot.lua import Script
from bot.redis_client import connect
from bot.redis_url import RedisUrl
from bot.store import Store
from tests.contract import mailbox_contract as laws
from tests.contract.mailbox_contract import LAWS, Law, Rig
from tests.redis_servers import SentinelSetup, Server

LEASE_SECONDS = 0.5
Rigs = Callable[[], AbstractAsyncContextManager[Rig]]


def rigs(url: str) -> Rigs:
    @asynccontextmanager
    async def rig() -> AsyncIterator[Rig]:
        async with connect(RedisUrl.parse(url)) as redis:
            yield Rig(redis, Store(redis, lease_seconds=LEASE_SECONDS))

    return rig


def name(law: Law) -> str:
    return law.__name__


@pytest.mark.parametrize("law", LAWS, ids=name)
async def test_on_a_standalone_server(law: Law, redis_url: str) -> None:
    async with rigs(redis_url)() as rig:
        await law(rig)


CHOSEN = (
    laws.nothing_is_stranded_between_the_last_read_and_the_release,
    laws.many_leases_are_renewed_together,
    laws.a_dead_workers_thread_is_taken_over,
    laws.a_redelivered_turn_carries_the_same_batch_and_its_progress,
    laws.a_finished_thread_leaves_its_map_and_transcript_and_nothing_else,
)


async def test_on_a_cluster(redis_cluster: Server) -> None:
    for law in CHOSEN:
        redis_cluster.command("FLUSHALL")
        async with rigs(redis_cluster.url)() as rig:
            await law(rig)


async def test_behind_sentinel(redis_sentinel: SentinelSetup) -> None:
    for law in CHOSEN:
        async with rigs(redis_sentinel.url)() as rig:
            await rig.redis.flushall()
            await law(rig)


def _broken(script: Script, old: str, new: str) -> Script:
    assert old in script.body, "the mutant no longer changes anything"
    return Script(script.name, script.body.replace(old, new))


MUTANTS: tuple[tuple[str, object, str, str, str, Law], ...] = (
    (
        "forgets that it saw a message",
        bot.mailbox,
        "PUT",
        "'NX', ",
        "",
        laws.a_duplicate_is_stored_once_and_announced_again,
    ),
    (
        "claims what somebody holds",
        bot.store,
        "CLAIM",
        "if holder and",
        "if false and",
        laws.one_turn_of_a_thread_at_a_time,
    ),
    (
        "saves with a stale token",
        bot.store,
        "SAVE",
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end",
        "",
        laws.a_lost_lease_can_write_nothing,
    ),
    (
        "frees another worker's lease",
        bot.store,
        "RELEASE",
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end",
        "",
        laws.a_lost_lease_can_write_nothing,
    ),
    (
        "renews what was given back",
        bot.store,
        "RELEASE",
        "redis.call('HDEL', KEYS[2], 'owner')",
        "",
        laws.what_was_given_back_is_not_taken_back_by_a_late_renewal,
    ),
    (
        "saves into whatever turn is open",
        bot.store,
        "SAVE",
        "if redis.call('HGET', KEYS[2], 'id') ~= ARGV[2] then return 1 end",
        "",
        laws.a_late_save_does_not_reach_the_next_turn,
    ),
    (
        "closes whatever turn is open",
        bot.store,
        "FINISH",
        "if redis.call('HGET', KEYS[4], 'id') == ARGV[2] then",
        "if true then",
        laws.every_change_may_be_sent_twice,
    ),
    (
        "forgets to stop",
        bot.mailbox,
        "STOP",
        "if turn then redis.call('HSET', KEYS[3], 'stop', '1') end",
        "",
        laws.stop_reaches_the_holder_and_drops_what_waits,
    ),
    (
        "reads newest first",
        bot.store,
        "CLAIM",
        "batch[#batch + 1] = message",
        "table.insert(batch, 1, message)",
        laws.what_waits_is_answered_together_in_order_of_arrival,
    ),
    (
        "releases without looking at the inbox",
        bot.store,
        "FINISH",
        "for _, id in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do",
        "for _, id in ipairs({}) do",
        laws.a_message_during_a_turn_becomes_the_next_turn,
    ),
    (
        "forgets what came too early",
        bot.mailbox,
        "PUT",
        "local early = redis.call('EXISTS', KEYS[5])",
        "local early = 0",
        laws.a_follow_up_that_overtakes_its_mention_is_answered_with_it,
    ),
    (
        "lets a deleted message through",
        bot.mailbox,
        "WITHDRAW",
        "return redis.call('HDEL', KEYS[3], ARGV[1])",
        "return 1",
        laws.a_deletion_while_waiting_is_not_answered,
    ),
)


@pytest.mark.parametrize(
    ("module", "script", "old", "new", "law"), [row[1:] for row in MUTANTS], ids=[row[0] for row in MUTANTS]
)
async def test_a_mutant_breaks_a_law(
    module: object, script: str, old: str, new: str, law: Law, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, script, _broken(getattr(module, script), old, new))
    with pytest.raises((AssertionError, Failed, LeaseLost, ValueError)):
        async with rigs(redis_url)() as rig:
            await law(rig)
