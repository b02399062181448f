"""`python -m tests.fakes.slack --port 9099`: a Slack to talk to with curl.

POST /control/say    {"text": "hello", "thread_ts": null, "channel": "general", "user": "alice"} -> {"ts": ...}
GET  /control/thread?channel=general&ts=...     what a user sees there
POST /control/press  {"channel", "ts", "action_id", "value", "user"}
POST /control/stop   {"channel", "ts", "user"}     Slack's own Stop button
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from aiohttp import web

from tests.fakes.slack.rendering import visible_text
from tests.fakes.slack.server import SlackServer


class Control:
    """Names (`general`, `dm`, `alice`) may stand for ids."""

    def __init__(self, slack: SlackServer) -> None:
        self._slack = slack

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/control/say", self.say),
            web.get("/control/thread", self.thread),
            web.post("/control/press", self.press),
            web.post("/control/stop", self.stop),
        ]

    async def say(self, request: web.Request) -> web.Response:
        """`@bot` in the text becomes a mention of the bot."""
        asked, user, channel = await self._asked(request)
        text = str(asked["text"]).replace("@bot", f"<@{self._slack.bot_user_id}>")
        ts = self._slack.say(channel, user, text, asked.get("thread_ts"))
        return web.json_response({"channel": channel, "ts": ts})

    async def thread(self, request: web.Request) -> web.Response:
        channel, root = (
            self._channel(request.query.get("channel", "general"), self._slack.alice),
            request.query["ts"],
        )
        thread = self._slack.thread(channel, root)
        said = [
            {"ts": message.ts, "user": message.user, "text": visible_text(message), "stream": message.stream}
            for message in self._slack.conversation(channel, root)
        ]
        return web.json_response({"session": thread.session, "status": thread.status, "messages": said})

    async def press(self, request: web.Request) -> web.Response:
        asked, user, channel = await self._asked(request)
        self._slack.press(channel, asked["ts"], asked["action_id"], asked.get("value"), user=user)
        return web.json_response({"ok": True})

    async def stop(self, request: web.Request) -> web.Response:
        asked, user, channel = await self._asked(request)
        self._slack.native_stop(channel, asked["ts"], user)
        return web.json_response({"ok": True})

    async def _asked(self, request: web.Request) -> tuple[dict[str, Any], str, str]:
        asked = await request.json()
        name = asked.get("user", "alice")
        users = self._slack.workspace.users.values()
        user = next((user.id for user in users if name in (user.id, user.name)), None) or self._slack.user(
            name
        )
        return asked, user, self._channel(asked.get("channel", "general"), user)

    def _channel(self, name: str, user: str) -> str:
        if name == "dm":
            return self._slack.dm(user)
        return next(c.id for c in self._slack.workspace.channels.values() if name in (c.id, c.name))


async def serve(port: int, url: str | None) -> None:
    slack = SlackServer(port)
    slack.control = Control(slack).routes()
    async with slack:
        if url is None:
            env = slack.env
        else:
            slack.deliver_to(url)
            env = {**slack.env, "SLACK_SIGNING_SECRET": slack.signing_secret}
            del env["SLACK_APP_TOKEN"]
        sys.stdout.write("".join(f"export {name}={value}\n" for name, value in env.items()))
        sys.stdout.write(f'# curl -d \'{{"text":"@bot hello"}}\' {slack.workspace.url}/control/say\n')
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.slack")
    parser.add_argument("--port", type=int, default=9099)
    parser.add_argument("--deliver-to", help="POST signed events to this URL instead of Socket Mode")
    given = parser.parse_args()
    try:
        asyncio.run(serve(given.port, given.deliver_to))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
