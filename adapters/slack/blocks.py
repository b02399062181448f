"""How an answer looks as a message: one markdown block, and what stands below it.

https://docs.slack.dev/reference/block-kit/blocks/markdown-block/ (12,000 characters, tables native),
https://docs.slack.dev/reference/block-kit/blocks/context-actions-block/
"""

from __future__ import annotations

from typing import Any

from adapters.slack.markup import notification
from adapters.slack.wire import BAD, FEEDBACK_ACTION, GOOD, STOP_ACTION
from bot.domain import Stage, Turn

EVENT_TYPE = "threadbot_turn"

Body = dict[str, Any]


def body(turn: Turn, text: str, stage: Stage, *, stoppable: bool) -> Body:
    """What chat.postMessage and chat.update share. `stoppable`: a live text gets a Stop button of ours."""
    blocks: list[Body] = [{"type": "markdown", "text": text or "…"}]
    if stage == "live" and stoppable:
        blocks.append(_stop())
    if stage == "last":
        blocks.append(_feedback())
    return {"blocks": blocks, "text": notification(text), "metadata": mark(turn)}


def plain_body(turn: Turn, text: str) -> Body:
    """The same text with nothing around it, for when Slack dislikes the blocks."""
    return {"markdown_text": text or "…", "metadata": mark(turn)}


def ending(turn: Turn, stage: Stage) -> Body:
    """What closes a stream: its mark, and the feedback buttons of an answer's end."""
    end: Body = {"metadata": mark(turn)}
    if stage == "last":
        end["blocks"] = [_feedback()]
    return end


def mark(turn: Turn) -> Body:
    """Names the turn, invisibly (https://docs.slack.dev/messaging/message-metadata/)."""
    return {"event_type": EVENT_TYPE, "event_payload": {"turn": turn.id}}


def marked(message: Body) -> str | None:
    """The turn a message is marked with."""
    match message.get("metadata"):
        case {"event_type": "threadbot_turn", "event_payload": {"turn": str(turn)}}:
            return turn
    return None


def _stop() -> Body:
    button = {"type": "button", "text": _label("Stop"), "action_id": STOP_ACTION, "value": "stop"}
    return {"type": "actions", "elements": [button]}


def _feedback() -> Body:
    buttons = {
        "type": "feedback_buttons",
        "action_id": FEEDBACK_ACTION,
        "positive_button": {"text": _label("Good answer"), "value": GOOD},
        "negative_button": {"text": _label("Bad answer"), "value": BAD},
    }
    return {"type": "context_actions", "elements": [buttons]}


def _label(text: str) -> Body:
    return {"type": "plain_text", "text": text}
