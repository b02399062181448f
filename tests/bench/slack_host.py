"""The fake Slack in its own process: people ask, and what they see is timed and counted."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable
from typing import Literal

from tests.bench.wire import FIRST, LAST, QUESTION, Body, obey
from tests.fakes.slack import Call, Message, SlackServer, visible_text
from tests.fakes.slack.delivery import Delivery, Envelope

_SPEAKING = {
    "chat.postMessage": "thread_ts",
    "chat.startStream": "thread_ts",
    "chat.appendStream": "ts",
    "chat.stopStream": "ts",
    "chat.update": "ts",
}
Sight = Literal["first", "final"]


class TimedDelivery(Delivery):
    """Notes when envelopes go out."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__(changed)
        self.times: list[float] = []

    def send(self, envelope: Envelope) -> None:
        self.times.append(time.monotonic())
        super().send(envelope)


class CountedSlack(SlackServer):
    """Every question has a number of its own, and the answer repeats it."""

    def __init__(self) -> None:
        super().__init__(keep_versions=False, keep_calls=False)
        self.echo_own = False
        self.delivery: TimedDelivery = TimedDelivery(self.changed)
        self.delivery.keep_log = False
        self.sent: dict[str, float] = {}  # question -> when its envelopes went out
        self.seen: dict[Sight, dict[str, float]] = {"first": {}, "final": {}}
        self.count_by_method: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._roots: list[str] = []
        self._root_of: dict[str, str] = {}
        self._next_root = 0

    def record(self, call: Call) -> None:
        super().record(call)
        self.count_by_method[call.method] += 1
        if call.outcome == "ok" and (name := _SPEAKING.get(call.method)) is not None:
            self._look(self._spoken(call, name), call.at)

    def _spoken(self, call: Call, name: str) -> Message:
        if name == "ts":
            return self.message(call.params["channel"], call.params["ts"])
        return self.thread(call.params["channel"], call.params["thread_ts"]).replies[-1]

    def _look(self, message: Message, at: float) -> None:
        text = visible_text(message)
        for question in QUESTION.findall(text):
            if FIRST in text:
                self.seen["first"].setdefault(question, at)
            if LAST in text:
                self.seen["final"].setdefault(question, at)

    def put_question(self, *, new: bool) -> str:
        question = f"q{next(self._numbers):06d}"
        root = None if new else self._roots[self._next_root % len(self._roots)]
        text = f"<@{self.bot_user_id}> {question}" if root is None else question
        self.delivery.times.clear()
        ts = self.say(self.general, self.alice, text, root)
        self.sent[question] = self.delivery.times[0]
        if root is None:
            self._roots.append(ts)
        else:
            self._next_root += 1
        self._root_of[question] = root or ts
        return question

    # --- what the bench asks for ---

    async def sockets(self, count: int) -> Body:
        await self.wait_for_sockets(count, timeout=30.0)
        return {}

    async def one_by_one(self, count: int, *, new: bool, gap: float) -> Body:
        """Ask, wait for the whole answer, rest for `gap` seconds, ask again; the questions."""
        questions = []
        for _ in range(count):
            questions.append(question := self.put_question(new=new))
            await self.wait_until(lambda q=question: q in self.seen["final"], timeout=20.0)  # type: ignore[misc]
            await asyncio.sleep(gap)
        return {"questions": questions}

    async def pump(self, count: int, *, new: bool, in_flight: int = 0) -> Body:
        """Ask as fast as it is acknowledged, with at most `in_flight` (0: any number) unanswered."""
        questions = []
        for _ in range(count):
            while self.delivery.pending > 40 or (in_flight and self._unseen("final") >= in_flight):
                await self.next_change()
            questions.append(self.put_question(new=new))
        while self.delivery.pending:
            await self.next_change()
        return {"questions": questions}

    async def settle(self, sight: Sight, *, patience: float) -> Body:
        """Wait until every question shows its first or final text, or nothing has changed for `patience` seconds."""
        while self._unseen(sight):
            try:
                async with asyncio.timeout(patience):
                    await self.next_change()
            except TimeoutError:
                break
        return {"unseen": self._unseen(sight), "at": time.monotonic()}

    async def twice(self, *, extra: int) -> Body:
        """From now on every envelope comes `extra` times more."""
        self.duplicates = extra
        return {}

    async def forget_roots(self) -> Body:
        """The next follow-ups go to threads that are begun from now on."""
        self._roots.clear()
        return {}

    async def times(self) -> Body:
        return {"sent": self.sent, "first": self.seen["first"], "final": self.seen["final"]}

    async def called(self) -> Body:
        return dict(self.count_by_method)

    async def tally(self) -> Body:
        """Over everything asked: questions without a whole answer, and answers beyond the first."""
        lost = doubled = 0
        for question, root in self._root_of.items():
            texts = [text for text in self.texts(self.general, root) if question in text]
            lost += not any(LAST in text for text in texts)
            doubled += max(0, len(texts) - 1)
        return {"asked": len(self._root_of), "lost": lost, "doubled": doubled}

    def _unseen(self, sight: Sight) -> int:
        return len(self.sent) - len(self.seen[sight])


async def main() -> None:
    async with CountedSlack() as slack:
        deeds = {
            name: getattr(slack, name)
            for name in (
                "sockets", "one_by_one", "pump", "settle", "twice", "forget_roots", "times", "called", "tally",
            )
        }  # fmt: skip
        await obey(deeds, {"env": slack.env})


if __name__ == "__main__":
    asyncio.run(main())
