"""Slack's text: what people wrote made readable, what we say made into plain notifications. Pure.

https://docs.slack.dev/messaging/formatting-message-text/
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_MARKUP = re.compile(r"<([^<>]*)>")  # raw `<` and `>` are only markup: typed ones come as entities
_SPOKEN_TO = r"\A\s*<@{bot}(?:\|[^<>]*)?>[\s,:;.!-]*"
_STOP = re.compile(r"\W*stop\W*", re.IGNORECASE)


def readable(text: str, *, bot: str, bot_name: str, names: Mapping[str, str]) -> str:
    """Mentions, channels and links as a person reads them; a mention of the bot at the front is left out."""
    text = re.sub(_SPOKEN_TO.format(bot=re.escape(bot)), "", text)
    text = _MARKUP.sub(
        lambda found: f"@{bot_name}" if found[1] == f"@{bot}" else _spelled(found[1], names), text
    )
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").strip()


def mentions(text: str, user: str) -> bool:
    return f"<@{user}>" in text or f"<@{user}|" in text


def is_stop(text: str) -> bool:
    """The word alone, however it is punctuated."""
    return _STOP.fullmatch(text) is not None


def notification(markdown: str) -> str:
    """Short plain text for notifications and screen readers, escaped so that it is no markup."""
    text = markdown[:300].strip() or "…"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _spelled(inner: str, names: Mapping[str, str]) -> str:
    target, _, label = inner.partition("|")
    match target[:1]:
        case "@":
            return "@" + (label or names.get(target[1:], target[1:]))
        case "#":
            return "#" + (label or target[1:])
        case "!":
            word = target[1:].partition("^")[0]
            return label or (f"@{word}" if word in ("here", "channel", "everyone") else word)
    bare = target.removeprefix("mailto:").removeprefix("tel:")
    if not label or label in (target, bare):
        return bare
    return f"{label} ({bare})"
