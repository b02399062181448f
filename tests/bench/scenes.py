"""What is measured. Each scene asks through the fake Slack and returns figures; times are in ms, memory in MB."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.bench.house import Bot, House

REST_SECONDS = 0.02  # between two questions of a quiet house: the turn before is put away
IDLE_SECONDS = 3.0
PATIENCE_SECONDS = 4.0  # nothing changes for so long: what is unanswered now stays so


@dataclass(frozen=True, slots=True)
class Spread:
    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Spread:
        values = sorted(seconds)
        return cls(
            statistics.median(values) * 1000, values[min(len(values) - 1, int(len(values) * 0.99))] * 1000
        )

    def __str__(self) -> str:
        return f"{self.p50:.1f} / {self.p99:.1f}"


@dataclass(frozen=True, slots=True)
class Quiet:
    """One question after the other."""

    to_run: Spread  # the envelope leaves Slack -> the engine gets the request that starts the run
    cpu: float  # ms a turn, of all processes of the bot


def quiet(house: House, bots: Sequence[Bot], count: int, *, new: bool) -> Quiet:
    before = sum(bot.cpu for bot in bots)
    questions = house.slack.ask("one_by_one", count=count, new=new, gap=REST_SECONDS)["questions"]
    cpu = sum(bot.cpu for bot in bots) - before
    sent, heard = house.slack.ask("times")["sent"], house.engine.ask("times")["heard"]
    return Quiet(Spread.of(heard[q] - sent[q] for q in questions), cpu * 1000 / count)


@dataclass(frozen=True, slots=True)
class Cost:
    """A turn's share of what others do for it."""

    sent: float  # commands that clients sent to Redis
    inside: float  # commands that scripts ran there
    trips: float
    calls: float  # of the Web API
    by_method: dict[str, float]


def cost(house: House, count: int) -> Cost:
    """Follow-ups, minus what an idle house does in the same time."""
    began = time.monotonic()
    calls = house.slack.ask("called")
    with house.redis_counts() as busy:
        house.slack.ask("one_by_one", count=count, new=False, gap=REST_SECONDS)
    seconds = time.monotonic() - began
    made = {name: (total - calls.get(name, 0)) / count for name, total in house.slack.ask("called").items()}
    with house.redis_counts() as idle:
        time.sleep(IDLE_SECONDS)
    share = {name: (busy[name] - idle[name] * seconds / IDLE_SECONDS) / count for name in busy}
    by_method = {name: share for name, share in made.items() if share}
    return Cost(**share, calls=sum(by_method.values()), by_method=by_method)


@dataclass(frozen=True, slots=True)
class Shown:
    """How long what the engine said takes to be seen."""

    first: Spread
    last: Spread


def shown(house: House, count: int, *, pause: float) -> Shown:
    """Many answers at once, each `pause` seconds between its tokens."""
    house.engine.ask("answer", pacing="slow", pause=pause)
    questions = house.slack.ask("pump", count=count, new=False)["questions"]
    house.slack.ask("settle", sight="final", patience=PATIENCE_SECONDS)
    house.engine.ask("answer", pacing="instant")
    said, seen = house.engine.ask("times"), house.slack.ask("times")
    there = [q for q in questions if q in seen["first"] and q in seen["final"]]
    return Shown(
        Spread.of(seen["first"][q] - said["first"][q] for q in there),
        Spread.of(seen["final"][q] - said["last"][q] for q in there),
    )


@dataclass(frozen=True, slots=True)
class Throughput:
    turns_per_second: float
    cpu: float  # ms a turn
    unanswered: int


def preloaded(house: House, count: int, *, new: bool) -> Throughput:
    """A gateway stores the questions, then a worker answers them alone."""
    already = len(house.engine.ask("times")["heard"])
    with house.bot("bot", "gateway", sockets=2):
        house.slack.ask("pump", count=count, new=new)
    with house.bot("bot", "worker") as worker:
        began = house.engine.ask("until_heard", count=already + 1)["at"]
        before = worker.cpu
        end = house.slack.ask("settle", sight="final", patience=PATIENCE_SECONDS)
        seconds = end["at"] - began - (PATIENCE_SECONDS if end["unseen"] else 0)
        return Throughput(count / seconds, (worker.cpu - before) * 1000 / count, end["unseen"])


def pumped(house: House, bot: Bot, count: int, *, in_flight: int) -> Throughput:
    """Questions in existing threads come as fast as answers go out."""
    before, began = bot.cpu, time.monotonic()
    house.slack.ask("pump", count=count, new=False, in_flight=in_flight)
    end = house.slack.ask("settle", sight="final", patience=PATIENCE_SECONDS)
    seconds = end["at"] - began - (PATIENCE_SECONDS if end["unseen"] else 0)
    return Throughput(count / seconds, (bot.cpu - before) * 1000 / count, end["unseen"])


@dataclass(frozen=True, slots=True)
class Crowd:
    """Threads that stream all at once."""

    asked: int
    streaming: int  # of them showed their first token while all were open
    rss: float  # while they were
    most: float  # highest of the whole life of the process
    after: float
    unanswered: int


def crowd(house: House, bot: Bot, count: int) -> Crowd:
    gates = [f"more-{count}", f"end-{count}"]
    house.engine.ask("answer", pacing="gated", gates=gates)
    house.slack.ask("pump", count=count, new=True)
    streaming = count - house.slack.ask("settle", sight="first", patience=PATIENCE_SECONDS)["unseen"]
    rss = bot.rss
    house.engine.ask("let_go", gate=gates[0])
    time.sleep(1.0)
    rss = max(rss, bot.rss)
    house.engine.ask("let_go", gate=gates[1])
    house.engine.ask("answer", pacing="instant")
    unseen = house.slack.ask("settle", sight="final", patience=PATIENCE_SECONDS)["unseen"]
    time.sleep(1.0)
    return Crowd(count, streaming, rss, bot.most_rss, bot.rss, unseen)


def redelivered(house: House, count: int) -> int:
    """Every envelope comes twice; returns how many answers there are too many."""
    before: int = house.slack.ask("tally")["doubled"]
    house.slack.ask("twice", extra=1)
    house.slack.ask("pump", count=count, new=True)
    house.slack.ask("settle", sight="final", patience=PATIENCE_SECONDS)
    house.slack.ask("twice", extra=0)
    time.sleep(1.0)  # a second answer would come now
    return int(house.slack.ask("tally")["doubled"]) - before
