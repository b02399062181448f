"""Each broken engine breaks the law it is broken for, and the unbroken one behind the same wrapper does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bot.errors import Retryable
from bot.ports import Engine
from tests.contract import engine_contract as laws
from tests.contract import engine_mutants as mutants
from tests.contract.engine_contract import World
from tests.contract.engine_worlds import scripted_world

Law = Callable[[World], Awaitable[None]]

BITES: list[tuple[Callable[[Engine], Engine], Law]] = [
    (mutants.TakesACutForAnEnd, laws.a_cut_is_not_an_end),
    (mutants.SaysADeltaTwice, laws.deltas_add_up_to_the_text),
    (mutants.ForgetsItsRuns, laws.a_run_is_found_by_its_turn),
    (mutants.FindsAnyRun, laws.a_run_is_found_by_its_turn),
    (mutants.HidesThatTheThreadIsBusy, laws.a_busy_thread_names_the_run_in_the_way),
    (mutants.EndsTheRunWhenLeft, laws.leaving_does_not_end_the_run),
    (mutants.ResumesFromNow, laws.resuming_begins_with_the_whole_text_so_far),
    (mutants.TriesAgainWhenUnsure, laws.a_start_without_an_answer_is_ambiguous_and_found),
    (mutants.TruncatesLongAnswers, laws.a_long_answer_arrives_whole),
]


@pytest.mark.parametrize(("mutant", "law"), BITES, ids=lambda part: getattr(part, "__name__", ""))
async def test_the_law_bites(mutant: Callable[[Engine], Engine], law: Law) -> None:
    async with scripted_world() as world:
        world.engine = mutant(world.engine)
        broken = False
        try:
            async with asyncio.timeout(10):
                await law(world)
        except (AssertionError, Retryable, pytest.fail.Exception):
            broken = True
    assert broken, f"{law.__name__} let it pass"


@pytest.mark.parametrize("law", sorted({law for _, law in BITES}, key=str), ids=lambda law: law.__name__)
async def test_the_wrapper_alone_breaks_nothing(law: Law) -> None:
    async with scripted_world() as world:
        world.engine = mutants.Wrapped(world.engine)
        await law(world)
