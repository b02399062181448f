"""The order of scenes for each way to run a bot, and the rows that come of it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench import report, scenes
from tests.bench.house import house
from tests.bench.report import Row
from tests.bench.scenes import Cost, Crowd, Quiet, Shown, Throughput

WARM = 40  # turns before anything counts
IN_FLIGHT = 100  # unanswered questions when a bot is pumped
PAUSE_SECONDS = 0.4  # between the tokens of an answer that is watched


@dataclass(frozen=True, slots=True)
class Beside:
    """What the plain Bolt bot did."""

    new: Quiet
    follow: Quiet
    shown: Shown
    cost: Cost
    pumped: Throughput
    doubled: int
    rss: float
    crowd: Crowd


def beside() -> Beside:
    with house() as here, here.bot("tests.bench.plain_bolt", sockets=1) as bot:
        scenes.quiet(here, [bot], WARM, new=True)
        rss = bot.rss
        return Beside(
            new=scenes.quiet(here, [bot], 100, new=True),
            follow=scenes.quiet(here, [bot], 200, new=False),
            shown=scenes.shown(here, 40, pause=PAUSE_SECONDS),
            cost=scenes.cost(here, 50),
            pumped=scenes.pumped(here, bot, 500, in_flight=IN_FLIGHT),
            doubled=scenes.redelivered(here, 20),
            rss=rss,
            crowd=scenes.crowd(here, bot, 2000),
        )


def one_process(bolt: Beside) -> list[Row]:
    with house() as here, here.bot("bot", "run", sockets=2) as bot:
        scenes.quiet(here, [bot], WARM, new=True)
        new = scenes.quiet(here, [bot], 150, new=True)
        follow = scenes.quiet(here, [bot], 300, new=False)
        shown = scenes.shown(here, 40, pause=PAUSE_SECONDS)
        cost = scenes.cost(here, 60)
        pumped = scenes.pumped(here, bot, 800, in_flight=IN_FLIGHT)
        doubled = scenes.redelivered(here, 20)
        tally = here.slack.ask("tally")
    return [
        Row("event -> run, one process, follow-up (ms)", str(follow.to_run), "p50 <= 4",
            follow.to_run.p50 <= 4, str(bolt.follow.to_run), report.TO_RUN),
        Row("event -> run, one process, new thread (ms)", str(new.to_run), bolt=str(bolt.new.to_run)),
        Row("first token -> first text visible (ms)", str(shown.first), "<= 300",
            shown.first.p99 <= 300, str(bolt.shown.first), report.FIRST_TEXT),
        Row("last token -> final text visible (ms)", str(shown.last), bolt=str(bolt.shown.last)),
        Row("turns a second, one process", f"{pumped.turns_per_second:.0f}",
            bolt=f"{bolt.pumped.turns_per_second:.0f}", elsewhere=report.TURNS),
        Row("CPU a turn, one process, busy (ms)", f"{pumped.cpu:.1f}", "<= 6", pumped.cpu <= 6,
            f"{bolt.pumped.cpu:.1f}", report.CPU),
        Row("CPU a turn, one process, quiet house (ms)", f"{follow.cpu:.1f}", bolt=f"{bolt.follow.cpu:.1f}"),
        *_costs("one process", cost, bolt),
        Row("answers too many, every event delivered twice", f"{doubled} of 20", "0", doubled == 0,
            f"{bolt.doubled} of 20", report.REDELIVERED),
        _faithful("one process", tally),
    ]  # fmt: skip


def split(bolt: Beside) -> list[Row]:
    with house() as here:
        with here.bot("bot", "gateway", sockets=2) as gateway, here.bot("bot", "worker") as worker:
            scenes.quiet(here, [gateway, worker], WARM, new=True)
            new = scenes.quiet(here, [gateway, worker], 100, new=True)
            follow = scenes.quiet(here, [gateway, worker], 200, new=False)
            cost = scenes.cost(here, 60)
        fresh = scenes.preloaded(here, 800, new=True)
        known = scenes.preloaded(here, 800, new=False)
        tally = here.slack.ask("tally")
    return [
        Row("event -> run, split, follow-up (ms)", str(follow.to_run), "p50 <= 8", follow.to_run.p50 <= 8),
        Row("event -> run, split, new thread (ms)", str(new.to_run)),
        Row("turns a second, one worker, follow-ups", f"{known.turns_per_second:.0f}", elsewhere=report.TURNS),
        Row("CPU a turn, one worker, follow-ups (ms)", f"{known.cpu:.1f}", "<= 6", known.cpu <= 6,
            f"{bolt.pumped.cpu:.1f}", report.CPU),
        Row("turns a second, one worker, new threads", f"{fresh.turns_per_second:.0f}"),
        Row("CPU a turn, one worker, new threads (ms)", f"{fresh.cpu:.1f}"),
        *_costs("split", cost, None),
        _faithful("split", tally),
    ]  # fmt: skip


def crowded(bolt: Beside) -> list[Row]:
    with (
        house() as here,
        here.bot("bot", "gateway", sockets=2) as gateway,
        here.bot("bot", "worker") as worker,
    ):
        scenes.quiet(here, [gateway, worker], WARM, new=True)
        empty = worker.rss
        small = scenes.crowd(here, worker, 500)
        large = scenes.crowd(here, worker, 2000)
        tally = here.slack.ask("tally")
    return [
        Row("RSS of one worker, no thread (MB)", f"{empty:.0f}", bolt=f"{bolt.rss:.0f}"),
        Row("RSS, 500 threads streaming (MB)", f"{small.rss:.0f}"),
        Row("RSS, 2,000 threads asked, at most (MB)", f"{large.most:.0f}", "< 250",
            large.most < 250, f"{bolt.crowd.most:.0f}", report.RSS_2000),
        Row("  of them streaming at once", str(large.streaming), "2000", large.streaming == large.asked,
            str(bolt.crowd.streaming)),
        Row("RSS after them (MB)", f"{large.after:.0f}", bolt=f"{bolt.crowd.after:.0f}"),
        _faithful("2,500 at once", tally),
    ]  # fmt: skip


def _costs(where: str, cost: Cost, bolt: Beside | None) -> list[Row]:
    calls = ", ".join(f"{name} {share:.1f}" for name, share in sorted(cost.by_method.items()))
    return [
        Row(f"Redis a turn, {where}: sent / in scripts / trips",
            f"{cost.sent:.0f} / {cost.inside:.0f} / {cost.trips:.0f}", elsewhere=report.COMMANDS),
        Row(f"platform calls a turn, {where}", f"{cost.calls:.1f}", bolt=f"{bolt.cost.calls:.1f}" if bolt else ""),
        Row(f"  {calls}", ""),
    ]  # fmt: skip


def _faithful(where: str, tally: dict[str, int]) -> Row:
    right = tally["lost"] == tally["doubled"] == 0
    figure = f"lost / doubled answers, {where}"
    return Row(figure, f"{tally['lost']} / {tally['doubled']} of {tally['asked']}", "0 / 0", right)
