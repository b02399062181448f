"""Files come in only from Slack and go out once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import web

from adapters.slack.fields import attachment
from adapters.slack.outlet import SlackOutlet
from bot.domain import Attachment, Turn, Upload
from bot.errors import Ambiguous, Rejected, Retryable
from tests.contract.slack_kit import HandClock, asked
from tests.fakes.slack import SlackServer


@pytest.fixture
async def slack() -> AsyncIterator[SlackServer]:
    async with SlackServer() as server:
        yield server


@pytest.fixture
async def outlet(slack: SlackServer) -> AsyncIterator[SlackOutlet]:
    mouth = SlackOutlet(bot_token=slack.bot_token, api_url=slack.api_url, max_download=1_000_000)
    yield mouth
    await mouth.close()


def shared(
    slack: SlackServer, content: bytes, *, name: str = "sales.csv", check_info: bool = False
) -> Attachment:
    file_id = slack.file(name, content, user=slack.alice, check_info=check_info)
    slack.say(slack.general, slack.alice, "look", files=[file_id])
    return attachment(file_id, slack.workspace.file_wire(slack.workspace.files[file_id], event=True))


async def read(outlet: SlackOutlet, what: Attachment) -> bytes:
    return b"".join([chunk async for chunk in outlet.fetch(what)])


async def test_a_shared_file_is_read(slack: SlackServer, outlet: SlackOutlet) -> None:
    content = b"a,b\n" * 50_000
    assert await read(outlet, shared(slack, content)) == content


async def test_a_slack_connect_file_is_asked_about_first(slack: SlackServer, outlet: SlackOutlet) -> None:
    what = shared(slack, b"secret", check_info=True)
    assert what.url == ""
    assert await read(outlet, what) == b"secret"


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/files.slack.com",
        "https://files.slack.com.evil.example/x",
        "https://evilslack.com/x",
        "http://files.slack.com/x",
        "https://files.slack.com:8443/x",
        "https://files.slack.com@evil.example/x",
        "http://127.0.0.1:1/api/x",
        "https://[::1/x",
        "file:///etc/passwd",
        "//files.slack.com/x",
        "x",
    ],
)
async def test_the_token_goes_to_slack_only(outlet: SlackOutlet, url: str) -> None:
    with pytest.raises(Rejected, match="not kept in Slack"):
        await read(outlet, Attachment("F1", "x.txt", url=url))


async def test_a_redirect_is_not_followed(outlet: SlackOutlet, slack: SlackServer) -> None:
    heard: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        heard.append(request.path)
        raise web.HTTPFound("/elsewhere")

    app = web.Application()
    app.router.add_get("/{path:.*}", redirect)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    home = f"http://127.0.0.1:{runner.addresses[0][1]}"
    mouth = SlackOutlet(bot_token="xoxb-1", api_url=f"{home}/api/")
    with pytest.raises(Rejected, match="files:read"):
        await read(mouth, Attachment("F1", "x.txt", url=f"{home}/x"))
    assert heard == ["/x"]
    await mouth.close()
    await runner.cleanup()


async def test_slacks_login_page_is_not_the_file(slack: SlackServer, outlet: SlackOutlet) -> None:
    what, page = shared(slack, b"x"), shared(slack, b"<p>hi</p>", name="page.html")
    assert await read(outlet, page) == b"<p>hi</p>"
    slack.scopes.discard("files:read")
    with pytest.raises(Rejected, match="files:read"):
        await read(outlet, what)


async def test_size_is_bounded_whatever_slack_said(slack: SlackServer, outlet: SlackOutlet) -> None:
    with pytest.raises(Rejected, match="too large"):
        await read(outlet, shared(slack, b"x" * 1_000_001))
    lying = shared(slack, b"x" * 5000)
    with pytest.raises(Rejected, match="larger than Slack said"):
        await read(outlet, Attachment(lying.id, lying.name, lying.media_type, 4999, lying.url))
    unknown = shared(slack, b"x" * 1_000_001)
    with pytest.raises(Rejected, match="larger than Slack said"):
        await read(outlet, Attachment(unknown.id, unknown.name, unknown.media_type, 0, unknown.url))


async def test_a_file_that_is_gone_is_said_to_be_gone(slack: SlackServer, outlet: SlackOutlet) -> None:
    what = shared(slack, b"x")
    slack.delete_file(what.id)
    with pytest.raises(Rejected, match="gone"):
        await read(outlet, what)
    with pytest.raises(Rejected, match="deleted"):
        await read(outlet, Attachment(what.id, what.name))


@pytest.mark.parametrize("fault", ["429", "500", "reset"])
async def test_a_download_that_fails_may_be_tried_again(
    slack: SlackServer, outlet: SlackOutlet, fault: str
) -> None:
    what = shared(slack, b"x")
    slack.faults.add(
        "download", fault, times=2 if fault == "reset" else 1
    )  # aiohttp itself repeats a GET once
    with pytest.raises(Retryable):
        await read(outlet, what)
    assert await read(outlet, what) == b"x"


async def test_an_upload_appears_once_in_the_thread(slack: SlackServer, outlet: SlackOutlet) -> None:
    turn = asked(slack)
    content = b"\x89PNG" * 500_000
    file_id = await outlet.upload(turn, "chart.png", "image/png", content)
    (reply,) = slack.replies(turn.thread.channel, turn.thread.root)
    assert (reply.files, slack.workspace.files[file_id].content) == ([file_id], content)


@pytest.mark.parametrize("fault", ["500", "reset", "drop_after"])
@pytest.mark.parametrize("step", ["files.getUploadURLExternal", "upload"])
async def test_before_the_last_step_nobody_saw_anything(
    slack: SlackServer, outlet: SlackOutlet, step: str, fault: str
) -> None:
    turn = asked(slack)
    slack.faults.add(step, fault, times=2)
    for _ in range(3):
        try:
            await outlet.upload(turn, "chart.png", "image/png", b"png")
            break
        except Retryable:
            assert slack.replies(turn.thread.channel, turn.thread.root) == []
    assert len(slack.replies(turn.thread.channel, turn.thread.root)) == 1


async def test_a_lost_answer_to_the_last_step_is_looked_up(slack: SlackServer, outlet: SlackOutlet) -> None:
    turn = asked(slack)
    slack.share_seconds = 0.3
    slack.faults.add("files.completeUploadExternal", "drop_after")
    file_id = await outlet.upload(turn, "chart.png", "image/png", b"png")
    (reply,) = slack.replies(turn.thread.channel, turn.thread.root)
    assert reply.files == [file_id]


async def test_what_cannot_be_looked_up_is_ambiguous(slack: SlackServer, outlet: SlackOutlet) -> None:
    slack.faults.add("files.completeUploadExternal", "reset")
    with pytest.raises(Ambiguous):
        await outlet.upload(asked(slack), "chart.png", "image/png", b"png")


async def test_a_look_up_that_is_refused_makes_it_no_less_ambiguous(
    slack: SlackServer, outlet: SlackOutlet
) -> None:
    """Taken for a call worth repeating, it would send the file again."""
    slack.faults.add("files.completeUploadExternal", "drop_after")
    slack.faults.add("files.info", "429", retry_after=60)
    with pytest.raises(Ambiguous):
        await outlet.upload(asked(slack), "chart.png", "image/png", b"png")


async def test_who_may_look_once_a_minute_sends_its_file_after_one_look(slack: SlackServer) -> None:
    """https://docs.slack.dev/changelog/2025-05-terms-rate-limit-update-and-faq/"""
    turn = replace(asked(slack), resumed=True)
    slack.faults.add("conversations.replies", "429", after=1, retry_after=60)
    heir = SlackOutlet(bot_token=slack.bot_token, api_url=slack.api_url, clock=HandClock())
    sent = await heir.upload(turn, "chart.png", "image/png", b"png")
    await heir.close()
    assert files_seen(slack, turn) == [sent]


def files_seen(slack: SlackServer, turn: Turn) -> list[str]:
    return [file for said in slack.replies(turn.thread.channel, turn.thread.root) for file in said.files]


@pytest.mark.parametrize("share_seconds", [0.0, 0.3])
async def test_who_takes_over_does_not_send_what_was_sent(
    slack: SlackServer, outlet: SlackOutlet, share_seconds: float
) -> None:
    """The first worker died between Slack's answer and its own note; two files of the turn have one name."""
    turn = asked(slack)
    noted = await outlet.upload(turn, "chart.png", "image/png", b"one")
    slack.share_seconds = share_seconds
    sent = await outlet.upload(turn, "chart.png", "image/png", b"two")
    heir = SlackOutlet(bot_token=slack.bot_token, api_url=slack.api_url)
    turn = replace(turn, resumed=True, uploads=(Upload("f1", noted),))
    assert await heir.upload(turn, "chart.png", "image/png", b"two") == sent
    turn = replace(turn, uploads=(*turn.uploads, Upload("f2", sent)))
    await heir.close()
    heir = SlackOutlet(bot_token=slack.bot_token, api_url=slack.api_url, clock=HandClock())
    third = await heir.upload(turn, "chart.png", "image/png", b"three")
    await heir.close()
    await slack.wait_until(lambda: files_seen(slack, turn) == [noted, sent, third])


async def test_a_file_of_the_turn_before_or_of_a_person_is_not_taken_for_ours(
    slack: SlackServer, outlet: SlackOutlet
) -> None:
    before = asked(slack)
    root = before.thread.root
    turn = asked(slack, "and?", thread_ts=root)  # while the first is still being answered
    old = await outlet.upload(before, "chart.png", "image/png", b"old")
    post = await outlet.open(turn, "Here:", "last")
    theirs = slack.file("chart.png", b"theirs", user=slack.alice)
    slack.say(slack.general, slack.alice, "mine", root, files=[theirs])
    heir = SlackOutlet(bot_token=slack.bot_token, api_url=slack.api_url, clock=HandClock())
    new = await heir.upload(replace(turn, resumed=True, posts=(post,)), "chart.png", "image/png", b"new")
    await heir.close()
    assert files_seen(slack, turn) == [old, new]


async def test_a_turn_that_nobody_left_is_not_looked_through(slack: SlackServer, outlet: SlackOutlet) -> None:
    await outlet.upload(asked(slack), "chart.png", "image/png", b"png")
    assert slack.count("conversations.replies") == 0


async def test_a_file_too_large_to_send_is_said_to_be(slack: SlackServer, outlet: SlackOutlet) -> None:
    content = bytes(outlet.limits.upload_bytes + 1)
    with pytest.raises(Rejected) as caught:
        await outlet.upload(asked(slack), "film.mp4", "video/mp4", content)
    assert (
        caught.value.user_text == "“film.mp4” is too large to send: it has 101 MB, and I send up to 100 MB."
    )
    assert slack.calls == []
