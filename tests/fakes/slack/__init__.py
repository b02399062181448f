"""A stateful Slack on a loopback port: Web API, Socket Mode, signed events, limits and faults.

Bots are pointed to it by `SLACK_API_URL`. What it knows of Slack is cited where it is used; the rest of
Slack answers `unknown_method`.
"""

from tests.fakes.slack.limits import Limit
from tests.fakes.slack.model import Call, File, Message, SlackError, Thread, Version
from tests.fakes.slack.rendering import pings, visible_text
from tests.fakes.slack.server import SlackServer

__all__ = [
    "Call", "File", "Limit", "Message", "SlackError", "SlackServer", "Thread", "Version", "pings", "visible_text",
]  # fmt: skip
