"""`python -m tests.bench`: one report, in about four minutes. Everything runs in processes of its own."""

from __future__ import annotations

import os
import platform
import sys
import time

from tests.bench.plays import beside, crowded, one_process, split
from tests.bench.report import table

NOTES = """
ms are p50 / p99 where there are two. event -> run: the envelope leaves Slack -> the engine receives the request that
starts the run; the mark is held against follow-ups in threads both know. New threads cost a second envelope and the
engine's thread besides. Ours and the plain Bolt bot run on this machine, now; others use it too, so compare the two
columns before comparing with a mark. * measured elsewhere, on 2 shared cores.
"""


def main() -> None:
    began = time.monotonic()
    _say("a plain Bolt bot, by hand ...")
    bolt = beside()
    _say("one process ...")
    rows = one_process(bolt)
    _say("gateway and worker ...")
    rows += split(bolt)
    _say("2,000 threads at once ...")
    rows += crowded(bolt)
    where = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"
    sys.stdout.write(f"{table(f'Threadbot, {where}', rows)}\n{NOTES}took {time.monotonic() - began:.0f} s\n")


def _say(what: str) -> None:
    sys.stderr.write(f"{what}\n")


if __name__ == "__main__":
    main()
