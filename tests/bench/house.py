"""Real processes, one of each kind: the fakes, Valkey, and the bot that is measured."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it ships no types
from redis import Redis

from tests import redis_servers
from tests.bench.eavesdropper import Eavesdropper
from tests.bench.wire import Host

MEGABYTE = 1024 * 1024
SAMPLE_SECONDS = 0.1


class Bot:
    """A process of the bot that is measured. Leaving it ends the process with SIGTERM."""

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments], env=environment, stdout=output, stderr=output
            )
        self._ps = psutil.Process(self._process.pid)
        self.most_rss = 0.0
        self._left = threading.Event()
        self._sampling = threading.Thread(target=self._sample, daemon=True)
        self._sampling.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def cpu(self) -> float:
        """Seconds so far, user and system."""
        times = self._ps.cpu_times()
        return float(times.user + times.system)

    @property
    def rss(self) -> float:
        """Megabytes."""
        return float(self._ps.memory_info().rss) / MEGABYTE

    def close(self) -> None:
        self._left.set()
        self._sampling.join()
        gone_by_itself = self._process.poll() is not None
        self._process.terminate()
        self._process.wait(10)
        if gone_by_itself:
            raise RuntimeError(f"the bot died:\n{self._log.read_text()[-2000:]}")

    def _sample(self) -> None:
        while not self._left.wait(SAMPLE_SECONDS):
            try:
                self.most_rss = max(self.most_rss, self.rss)
            except psutil.Error:
                return


@dataclass
class House:
    """Where one bot lives while it is measured."""

    slack: Host
    engine: Host
    redis: redis_servers.Server
    folder: Path

    @contextmanager
    def bot(self, *arguments: str, sockets: int = 0) -> Iterator[Bot]:
        """Start `python -m ARGUMENTS`; `sockets`: wait until Slack sees that many of its connections."""
        bot = Bot(arguments, self._environment(), self.folder / f"{arguments[-1]}.log")
        try:
            if sockets:
                self.slack.ask("sockets", count=sockets)
            yield bot
        finally:
            bot.close()

    @contextmanager
    def redis_counts(self) -> Iterator[dict[str, float]]:
        """Filled in at the end: commands `sent` by clients, run `inside` their scripts, and network `trips`."""
        counts: dict[str, float] = {}
        with Redis.from_url(self.redis.url) as client, Eavesdropper(self.redis) as heard:
            before = client.info("stats")["total_reads_processed"]
            yield counts
            counts["trips"] = client.info("stats")["total_reads_processed"] - before
        counts |= {"sent": heard.sent, "inside": heard.inside}

    def _environment(self) -> dict[str, str]:
        kept = {
            name: os.environ[name]
            for name in ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH")
            if name in os.environ
        }
        env: dict[str, str] = self.slack.hello["env"]
        return {
            **kept,
            **env,
            "REDIS_URL": self.redis.url,
            "OPENAI_BASE_URL": self.engine.hello["url"],
            "OPENAI_API_KEY": "bench",
            "THREADBOT_ENGINE": "assistants",
            "THREADBOT_MODEL": "scripted",
            "THREADBOT_DATA": str(self.folder / "data"),
        }


@contextmanager
def house() -> Iterator[House]:
    with (
        tempfile.TemporaryDirectory(prefix="tb", ignore_cleanup_errors=True) as folder,
        redis_servers.standalone(Path(folder)) as redis,
        Host("tests.bench.slack_host") as slack,
        Host("tests.bench.engine_host") as engine,
    ):
        yield House(slack, engine, redis, Path(folder))
