"""Whatever comes, `parse` returns: an intent that survives its key, or Ignore."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from adapters.slack.wire import Ignore, Put, parse, spoken
from bot.domain import Message, ThreadKey
from tests.wire.slack_payloads import ALICE, FILE, US, changed, deleted, envelope, mention, message, pressed

MESSAGE = TypeAdapter(Message)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.just("x" * 200_000)
    | st.just("\ud83d"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
AT = f"<@{US.user}>"
EDITED = {**message(f"{AT} b"), "edited": {"user": ALICE, "ts": "1.1"}}
WHOLE: list[dict[str, Any]] = [
    envelope(message(f"{AT} hi <@U1|x> <http://a|b>", files=[FILE], thread_ts="1732346000.000200")),
    envelope(mention(f"{AT} stop")),
    envelope(changed(EDITED, message("a"))),
    envelope(deleted(message("a"))),
    envelope(
        {
            "type": "agent_session_stopped",
            "channel": "C1",
            "thread_ts": "1.1",
            "user": ALICE,
            "event_ts": "1.2",
        }
    ),
    pressed({"action_id": "threadbot_stop", "type": "button", "value": "stop"}),
    pressed({"action_id": "threadbot_feedback", "type": "feedback_buttons", "value": "good"}),
]


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in the payload."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
    return [(node, key) for key in keys] + [place for key in keys for place in places(node[key])]


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_no_damage_to_a_payload_raises(data: st.DataObject) -> None:
    payload = copy.deepcopy(data.draw(st.sampled_from(WHOLE)))
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(payload) or [({}, "")]))
        if isinstance(container, dict) and data.draw(st.booleans()):
            container.pop(key, None)
        elif key in container or isinstance(container, list):
            container[key] = data.draw(JUNK)
    intent = parse(payload, US)
    if isinstance(intent, Put):
        assert ThreadKey.parse(str(intent.message.thread)) == intent.message.thread
        assert MESSAGE.validate_json(MESSAGE.dump_json(intent.message)) == intent.message
    spoken(payload.get("event"), ThreadKey("slack", "T1", "C1", "1.1"), US)


@given(JUNK)
@settings(deadline=None)
def test_nonsense_is_ignored(junk: Any) -> None:
    assert isinstance(parse(junk, US), Ignore)
    assert isinstance(parse({"type": "event_callback", "event": junk}, US), Ignore)
