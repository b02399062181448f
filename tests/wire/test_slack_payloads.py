"""What each payload asks for."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.slack.wire import (
    Amend,
    Feedback,
    Ignore,
    Installation,
    Put,
    Stop,
    Withdraw,
    parse,
    spoken,
)
from bot.domain import Attachment, Author, Message, ThreadKey
from tests.wire.slack_payloads import ALICE, FILE, US, changed, deleted, envelope, mention, message, pressed

ROOT = "1732346000.000200"
THREAD = ThreadKey("slack", US.team, "C0GENERAL01", ROOT)
AT = f"<@{US.user}>"


def put(payload: object, us: Installation = US, **more: Any) -> Message:
    match parse(payload, us, **more):
        case Put(said):
            return said
        case other:
            raise AssertionError(other)


def test_a_mention_is_a_message_to_us_without_the_mention() -> None:
    assert put(envelope(message(f"{AT} what is up?"))) == Message(
        ROOT, THREAD, Author(ALICE, "", US.team), "what is up?", addressed=True, private=False, opens=True
    )


def test_both_twins_of_a_mention_are_the_same_message() -> None:
    assert put(envelope(message(f"{AT} hi"))) == put(envelope(mention(f"{AT} hi"), event_id="Ev0OTHER"))
    files = {"files": [FILE], "upload": False}
    shared = message(f"{AT} hi", subtype="file_share", **files)
    assert put(envelope(shared)) == put(envelope(mention(f"{AT} hi", **files)))


def test_a_line_in_a_thread_is_heard_but_not_addressed() -> None:
    said = put(envelope(message("and now?", ts="1732346050.000100", thread_ts=ROOT, parent_user_id=ALICE)))
    assert (said.thread, said.id, said.addressed, said.opens) == (THREAD, "1732346050.000100", False, False)


def test_a_direct_message_is_addressed_private_and_a_thread_of_its_own() -> None:
    said = put(envelope(message("hi", channel="D0DIRECT001", channel_type="im")))
    assert (said.addressed, said.private, said.opens) == (True, True, True)
    assert said.thread == ThreadKey("slack", US.team, "D0DIRECT001", ROOT)


def test_a_group_conversation_is_not_private() -> None:
    said = put(envelope(message("hi", channel="G0GROUP0001", channel_type="mpim")))
    assert (said.addressed, said.private) == (False, False)


@pytest.mark.parametrize("subtype", ["file_share", "thread_broadcast", "me_message"])
def test_what_people_say_in_other_ways_is_heard_too(subtype: str) -> None:
    assert put(envelope(message(f"{AT} hi", subtype=subtype))).text == "hi"


@pytest.mark.parametrize(
    "subtype",
    [
        "channel_join",
        "channel_topic",
        "bot_message",
        "message_replied",
        "assistant_app_thread",
        "tombstone",
        "bot_add",
    ],
)
def test_what_nobody_said_is_ignored(subtype: str) -> None:
    assert parse(envelope(message(f"{AT} x", subtype=subtype)), US) == Ignore("subtype")


def test_bots_and_the_bot_itself_are_ignored() -> None:
    assert parse(envelope(message(f"{AT} hi", bot_id="B0OTHER0001", app_id="A0OTHER0001")), US) == Ignore(
        "bot"
    )
    assert parse(envelope(message("me", user=US.user, bot_id=US.bot)), US) == Ignore("self")
    assert parse(envelope(message(f"{AT} Reminder", user="USLACKBOT")), US) == Ignore("bot")


def test_people_of_other_workspaces_are_not_heard() -> None:
    event = message(f"{AT} hi", user_team="T0OTHER0001", source_team="T0OTHER0001", user="U0GUEST0001")
    payload = envelope(event, is_ext_shared_channel=True)
    assert parse(payload, US) == Ignore("external")
    edit = envelope(changed({**event, "text": "x", "edited": {"user": "U0GUEST0001", "ts": "1.1"}}, event))
    assert parse(edit, US) == Ignore("external")
    button = {"action_id": "threadbot_stop", "type": "button", "value": "stop"}
    press = pressed(button, user={"id": "U0GUEST0001", "team_id": "T0OTHER0001"})
    assert parse(press, US) == Ignore("external")
    past = spoken(event, THREAD, US)
    assert past is not None
    assert past.author == Author("U0GUEST0001", "", "T0OTHER0001")  # but what they said is part of the thread


def test_files_come_along() -> None:
    said = put(envelope(message("", subtype="file_share", files=[FILE], upload=False)))
    assert said.attachments == (
        Attachment("F0FILE00001", "sales.csv", "text/csv", 2048, FILE["url_private_download"]),
    )


def test_a_slack_connect_file_has_no_address_yet_and_gone_ones_are_left_out() -> None:
    files = [
        {"id": "F0CONNECT01", "mode": "file_access", "file_access": "check_file_info"},
        {"id": "F0TOMB00001", "mode": "tombstone"},
        {"id": "F0HIDDEN001", "mode": "hidden_by_limit"},
    ]
    said = put(envelope(message("look", subtype="file_share", files=files)))
    assert said.attachments == (Attachment("F0CONNECT01", "F0CONNECT01"),)


def test_half_a_character_is_replaced_wherever_it_is() -> None:
    """JSON may hold lone surrogates, which no store takes."""
    half = "x\ud83d"
    file = {**FILE, "name": half, "mimetype": half, "url_private_download": half}
    profile = {"display_name": half}
    said = put(envelope(message(f"{AT} {half}", subtype="file_share", files=[file], user_profile=profile)))
    whole = "x\ufffd"
    assert (said.text, said.author.name) == (whole, whole)
    (attached,) = said.attachments
    assert (attached.name, attached.media_type, attached.url) == (whole, whole, whole)
    edit = parse(
        envelope(changed({**message(half), "edited": {"user": "U1", "ts": "1.1"}}, message("a"))), US
    )
    assert isinstance(edit, Amend)
    assert edit.text == whole


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (f"{AT}: hi", "hi"),
        (f"{AT}, {AT} hi", "@threadbot hi"),
        (f"hey {AT} hi", "hey @threadbot hi"),
        (f"<@{US.user}|threadbot> hi", "hi"),
        (f"{AT} ask <@U0BOB000001>", "ask @bob"),
        (f"{AT} ask <@U0NOBODY001> or <@U0X|xaver>", "ask @U0NOBODY001 or @xaver"),
        (f"{AT} in <#C1|general> and <#C2>", "in #general and #C2"),
        (f"{AT} see <https://a.b/c?d=1&amp;e=2|the page>", "see the page (https://a.b/c?d=1&e=2)"),
        (f"{AT} see <https://a.b>", "see https://a.b"),
        (f"{AT} <mailto:a@b.c|a@b.c>", "a@b.c"),
        (f"{AT} <!here> <!subteam^S1|@team> <!date^1^{{date}}|today>", "@here @team today"),
        (f"{AT} if a &lt; b &amp;&amp; c &gt; d", "if a < b && c > d"),
        (f"{AT} &amp;lt;b&amp;gt;", "&lt;b&gt;"),
        (f"{AT}", ""),
    ],
)
def test_the_text_is_as_a_person_reads_it(raw: str, text: str) -> None:
    assert put(envelope(message(raw)), names={"U0BOB000001": "bob"}).text == text


def test_the_profile_in_the_payload_names_the_author() -> None:
    profile = {"display_name": "", "real_name": "Alice A.", "name": "alice", "team": US.team}
    event = message(f"{AT} hi", user_profile=profile)
    assert put(envelope(event)).author.name == "Alice A."


@pytest.mark.parametrize("word", ["stop", "STOP", " Stop! ", "stop.", "*stop*", "…stop…"])
def test_the_word_stop_in_a_thread_stops_it(word: str) -> None:
    event = message(word, ts="1732346050.000100", thread_ts=ROOT)
    assert parse(envelope(event), US) == Stop(THREAD, "1732346050.000100")
    assert parse(envelope(message(f"{AT} {word}", ts="1732346050.000100", thread_ts=ROOT)), US) == Stop(
        THREAD, "1732346050.000100"
    )


def test_the_word_stop_elsewhere_is_only_a_word() -> None:
    assert not put(envelope(message("stop"))).addressed
    assert (
        put(envelope(message("stop the press", ts="1732346050.000100", thread_ts=ROOT))).text
        == "stop the press"
    )
    assert isinstance(parse(envelope(message(f"{AT} stop")), US), Stop)


def test_the_word_stop_at_the_top_of_a_direct_conversation_stops_what_is_answered_there() -> None:
    direct = message("stop", channel="D0DIRECT001", channel_type="im")
    assert parse(envelope(direct), US) == Stop(ThreadKey("slack", US.team, "D0DIRECT001", ""), ROOT)


def test_an_edit_of_ones_own_words_amends() -> None:
    before = message(f"{AT} 1+1?")
    after = {**before, "text": f"{AT} 1+2?", "edited": {"user": ALICE, "ts": "1732346099.000000"}}
    assert parse(envelope(changed(after, before)), US) == Amend(THREAD, ROOT, "1+2?")


def test_an_edit_in_a_thread_names_the_thread() -> None:
    before = message("1+1?", ts="1732346050.000100", thread_ts=ROOT)
    after = {**before, "text": "1+2?", "edited": {"user": ALICE, "ts": "1732346099.000000"}}
    assert parse(envelope(changed(after, before)), US) == Amend(THREAD, "1732346050.000100", "1+2?")


def test_previews_and_stream_edits_amend_nothing() -> None:
    before = message("see <https://a.b>")
    preview = {**before, "attachments": [{"from_url": "https://a.b", "id": 1}]}
    assert parse(envelope(changed(preview, before)), US) == Ignore("unchanged")
    edited = {**before, "edited": {"user": ALICE, "ts": "1.1"}}
    assert parse(envelope(changed({**edited, "attachments": []}, edited)), US) == Ignore("unchanged")
    stream = message("Hello", user=US.user, bot_id=US.bot, streaming_state="in_progress")
    assert parse(envelope(changed({**stream, "text": "Hello wor"}, stream)), US) == Ignore("self")


def test_a_mention_that_an_edit_added_is_not_a_second_message() -> None:
    edited = mention(f"{AT} 1+2?", edited={"user": ALICE, "ts": "1732346099.000000"})
    assert parse(envelope(edited), US) == Ignore("edit")


def test_a_deleted_message_is_withdrawn() -> None:
    assert parse(envelope(deleted(message(f"{AT} oops"))), US) == Withdraw(THREAD, ROOT)
    reply = message("oops", ts="1732346050.000100", thread_ts=ROOT)
    assert parse(envelope(deleted(reply)), US) == Withdraw(THREAD, "1732346050.000100")
    ours = message("x", user=US.user, bot_id=US.bot)
    assert parse(envelope(deleted(ours)), US) == Ignore("bot")


def test_a_deleted_message_with_replies_becomes_a_tombstone_and_is_withdrawn() -> None:
    before = message(f"{AT} oops", thread_ts=ROOT)
    tomb = {"type": "message", "subtype": "tombstone", "text": "This message was deleted.", "user": "USLACKBOT",
            "hidden": True, "ts": ROOT, "thread_ts": ROOT, "reply_count": 1}  # fmt: skip
    assert parse(envelope(changed(tomb, before)), US) == Withdraw(THREAD, ROOT)


def test_slacks_own_stop_button_stops() -> None:
    event = {"type": "agent_session_stopped", "channel": "C0GENERAL01", "thread_ts": ROOT, "user": ALICE,
             "streaming_message_ts": ["1732346010.000100"], "event_ts": "1732346020.000100"}  # fmt: skip
    assert parse(envelope(event), US) == Stop(THREAD, "Ev0PV52K21")


def test_our_stop_button_stops() -> None:
    button = {"action_id": "threadbot_stop", "block_id": "b1", "type": "button", "value": "stop",
              "text": {"type": "plain_text", "text": "Stop"}, "action_ts": "1732346020.000100"}  # fmt: skip
    assert parse(pressed(button), US) == Stop(THREAD, "12466734323.1395872398.abcdef")


@pytest.mark.parametrize(("value", "good"), [("good", True), ("bad", False)])
def test_feedback_names_post_and_person(value: str, good: bool) -> None:
    action = {"type": "feedback_buttons", "action_id": "threadbot_feedback", "block_id": "b2", "value": value,
              "action_ts": "1732346020.000100", "text": {"type": "plain_text", "text": "x"}}  # fmt: skip
    assert parse(pressed(action), US) == Feedback(THREAD, "1732346010.000100", ALICE, good)


def test_other_payloads_are_not_ours() -> None:
    assert parse(pressed({"action_id": "something_else", "type": "button"}), US) == Ignore("kind")
    assert parse(envelope({"type": "team_join", "user": {}}), US) == Ignore("kind")
    assert parse({"type": "view_submission", "view": {}}, US) == Ignore("kind")


def test_history_knows_people_and_us_and_nobody_else() -> None:
    said = spoken(message(f"{AT} hi"), THREAD, US)
    assert said is not None
    assert (said.author.id, said.text) == (ALICE, "hi")
    ours = spoken(
        message("Hello", user=US.user, bot_id=US.bot, ts="1732346001.000100", thread_ts=ROOT), THREAD, US
    )
    assert ours is not None
    assert (ours.author, ours.addressed) == (Author(US.user, "threadbot"), False)
    assert spoken(message("beep", bot_id="B0OTHER0001"), THREAD, US) is None
    assert spoken(message("x joined", subtype="channel_join"), THREAD, US) is None
    assert spoken("nonsense", THREAD, US) is None
