"""Injected faults: what goes wrong, for which calls, how often."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

from tests.fakes.slack.model import Json

_KINDS = Literal["429", "500", "503", "reset", "drop_after", "delay", "hang"]


@dataclass(slots=True)
class Fault:
    method: str
    kind: str
    times: int | None
    after: int
    retry_after: int
    seconds: float
    probability: float
    chance: random.Random
    where: Callable[[Json], bool] | None
    hits: int = 0


class Faults:
    """The faults in force; the first that applies to a call is used.

    >>> slack.faults.add("chat.*", "429", times=3, retry_after=1)
    >>> slack.faults.add("chat.postMessage", "drop_after")            # processed, answer lost
    >>> slack.faults.add("*", "500", probability=0.2, seed=7)
    """

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(
        self,
        method: str,
        kind: str,
        *,
        times: int | None = None,
        probability: float = 1.0,
        seed: int = 0,
        after: int = 0,
        retry_after: int = 1,
        seconds: float = 1.0,
        where: Callable[[Json], bool] | None = None,
    ) -> Fault:
        """Adds a fault; `fault.hits` counts its victims.

        `kind`: "429", "500", "503"; "reset" closes before processing; "drop_after" processes, then closes
        without an answer; "delay" waits `seconds`, then processes; "hang" never answers; "error:<code>".
        `method` may hold wildcards; "upload" and "download" name file transfers. `times` is 1 unless
        a `probability` is given, then endless. The first `after` matching calls pass. `where` looks at the parameters.
        """
        if kind not in get_args(_KINDS) and not kind.startswith("error:"):
            raise ValueError(f"unknown fault {kind!r}")
        if times is None and probability == 1.0:
            times = 1
        fault = Fault(
            method, kind, times, after, retry_after, seconds, probability, random.Random(seed), where
        )
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        self._faults.clear()

    def strike(self, method: str, params: Json) -> Fault | None:
        """The fault this call suffers, counted."""
        for fault in self._faults:
            if not fnmatchcase(method, fault.method) or (fault.where and not fault.where(params)):
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            if fault.times is not None and fault.hits >= fault.times:
                continue
            if fault.probability < 1.0 and fault.chance.random() >= fault.probability:
                continue
            fault.hits += 1
            return fault
        return None
