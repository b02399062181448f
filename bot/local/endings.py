"""How a run, its open message and its open step end. Pure: new bodies out of old ones.

One table for the running process, for the reaper and for recovery after a crash, so that a run ends the same
way whoever ends it.
"""

from dataclasses import dataclass
from typing import Literal

from bot.local.errors import RunErrorCode
from bot.local.wire import Body

MessageReason = Literal["content_filter", "max_tokens", "run_cancelled", "run_expired", "run_failed"]


@dataclass(frozen=True, slots=True)
class Ending:
    run_status: Literal["completed", "incomplete", "failed", "cancelled", "expired"]
    step_status: Literal["completed", "failed", "cancelled", "expired"]
    message_reason: MessageReason | None = None
    error: tuple[RunErrorCode, str] | None = None


COMPLETED = Ending("completed", "completed")
OUT_OF_TOKENS = Ending("incomplete", "completed", "max_tokens")
CANCELLED = Ending("cancelled", "cancelled", "run_cancelled")
EXPIRED = Ending("expired", "expired", "run_expired")
RESTARTED = Ending(
    "failed",
    "failed",
    "run_failed",
    ("server_error", "The server was restarted while this run was in progress. Start a new run."),
)
FILTERED = Ending(
    "failed", "failed", "content_filter", ("server_error", "The model's content filter stopped the answer.")
)


def failed(code: RunErrorCode, message: str) -> Ending:
    return Ending("failed", "failed", "run_failed", (code, message))


def end_run(run: Body, ending: Ending, *, usage: Body | None, now: int) -> Body:
    ended = run | {"status": ending.run_status, "required_action": None, "usage": usage}
    match ending.run_status:
        case "completed" | "failed" | "cancelled" as status:
            ended[f"{status}_at"] = now
        case "incomplete":
            ended["incomplete_details"] = {"reason": "max_completion_tokens"}
        case "expired":
            pass  # a run has no expired_at: expires_at says it
    if ending.error is not None:
        code, text = ending.error
        ended["last_error"] = {"code": code, "message": text}
    return ended


def end_message(message: Body, ending: Ending, *, now: int) -> Body:
    if ending.message_reason is None:
        return message | {"status": "completed", "completed_at": now}
    return message | {
        "status": "incomplete",
        "incomplete_at": now,
        "incomplete_details": {"reason": ending.message_reason},
    }


def end_step(step: Body, ending: Ending, *, usage: Body | None, now: int) -> Body:
    ended = step | {"status": ending.step_status, f"{ending.step_status}_at": now, "usage": usage}
    if ending.error is not None and ending.step_status == "failed":
        code, text = ending.error
        # A step's last_error knows only two codes (openai.types.beta.threads.runs.run_step.LastError).
        ended["last_error"] = {"code": "server_error" if code == "invalid_prompt" else code, "message": text}
    return ended
