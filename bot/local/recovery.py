"""Runs nobody works on any more: ended in the database alone, after a crash or past their deadline."""

from bot.local import endings
from bot.local.endings import Ending
from bot.local.tx import Tx
from bot.local.wire import Body


def recover(tx: Tx, *, now: int) -> int:
    """Ends what a dead process left at work, so that no thread stays locked; returns how many.

    Runs that wait for tool outputs need no process and go on waiting.
    """
    left = [active for active in tx.all_active() if active.status != "requires_action"]
    for active in left:
        run = tx.find("run", active.run, parent=active.thread)
        ending = endings.CANCELLED if active.status == "cancelling" else endings.RESTARTED
        if run is None:
            tx.release(active.thread)
        else:
            end_in_store(tx, run, ending, now=now)
    return len(left)


def expire_overdue(tx: Tx, *, now: float, but: frozenset[str], dry: bool = False) -> int:
    """Ends runs past their deadline, except on the threads `but`; `dry` only counts them.

    They waited for tool outputs too long, or their end could not be stored when it came.
    """
    overdue = [run for run in tx.all_active() if run.deadline <= now and run.thread not in but]
    for active in overdue if not dry else ():
        end_in_store(tx, tx.need("run", active.run, parent=active.thread), endings.EXPIRED, now=int(now))
    return len(overdue)


def end_in_store(tx: Tx, run: Body, ending: Ending, *, now: int) -> Body:
    """Ends the run with whatever of it is still in progress, and unlocks its thread."""
    active = tx.active(run["thread_id"])
    spent = active.spent if active is not None else None
    ended = endings.end_run(run, ending, usage=spent, now=now)
    tx.save(ended)
    tx.release(run["thread_id"])
    for message in tx.messages_of(run["id"]):
        if message["status"] == "in_progress":
            tx.save(endings.end_message(message, ending, now=now))
    for step in tx.all("step", parent=run["id"]):
        if step["status"] == "in_progress":
            tx.save(endings.end_step(step, ending, usage=spent, now=now))
    return ended
