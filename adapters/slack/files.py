"""Files, in and out.

In: https://docs.slack.dev/messaging/working-with-files/#authentication ; without a good token Slack answers with its
login page and 200. Out: getUploadURLExternal, POST, completeUploadExternal.
"""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

import aiohttp
import structlog

from adapters.slack.api import Api
from adapters.slack.errors import MAYBE_DONE, wait_of
from adapters.slack.fields import attachment as read_attachment
from bot.domain import Attachment, Turn
from bot.errors import Ambiguous, Rejected, Retryable, ThreadbotError

_log = structlog.get_logger()
MEBIBYTE = 1024 * 1024
_CHUNK = 64 * 1024
_HOSTS = ("slack.com", "slack-edge.com", "slack-files.com")
SHARING_SECONDS = (0.2, 0.5, 1.0)  # before each look for a file that may be there: sharing is asynchronous


class Files:
    """The bot token goes to Slack's own hosts over TLS, and to where the Web API is, and nowhere else."""

    def __init__(self, api: Api, *, max_download: int) -> None:
        self._api = api
        self._max_download = max_download

    async def fetch(self, attachment: Attachment) -> AsyncGenerator[bytes, None]:
        if not attachment.url:  # Slack Connect: the event had only the id
            answer = await self._api.call("files.info", repeatable=True, patience=1.0, file=attachment.id)
            attachment = read_attachment(attachment.id, answer.get("file") or {})
        if not self._is_slack(attachment.url):
            raise Rejected(
                f"I cannot read “{attachment.name}”: it is not kept in Slack itself; please upload the file."
            )
        limit = attachment.size or self._max_download
        if limit > self._max_download:
            raise Rejected(
                f"“{attachment.name}” is too large: I read files up to {self._max_download // MEBIBYTE} MB."
            )
        try:
            async with self._api.session.get(
                attachment.url,
                headers={"Authorization": f"Bearer {self._api.token}"},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=600, sock_connect=5, sock_read=30),
                proxy=self._api.client.proxy,
            ) as response:
                _check(response, attachment)
                async for chunk in response.content.iter_chunked(_CHUNK):
                    limit -= len(chunk)
                    if limit < 0:
                        raise Rejected(
                            f"“{attachment.name}” is larger than Slack said; please upload it again."
                        )
                    yield chunk
        except MAYBE_DONE as error:
            raise Retryable(f"download: {type(error).__name__}") from error

    async def upload(self, turn: Turn, name: str, content: bytes) -> str:
        ticket = await self._api.call(
            "files.getUploadURLExternal", repeatable=True, patience=1.0, filename=name, length=len(content)
        )
        file_id, url = str(ticket["file_id"]), str(ticket["upload_url"])
        await self._send(url, content)
        try:
            await self._api.call(
                "files.completeUploadExternal", patience=1.0, files=[{"id": file_id, "title": name}],
                channel_id=turn.thread.channel, thread_ts=turn.thread.root,
            )  # fmt: skip
        except Ambiguous:
            if not await self._is_shared(file_id, turn):
                raise
        return file_id

    async def _send(self, url: str, content: bytes) -> None:
        """Until it is completed nobody sees it, so failing here is harmless. The URL is its own credential."""
        try:
            async with self._api.session.post(
                url,
                data=io.BytesIO(content),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=600, sock_connect=5, sock_read=60),
                proxy=self._api.client.proxy,
            ) as response:
                if response.status != 200:
                    raise Retryable(f"upload: HTTP {response.status}")
        except MAYBE_DONE as error:
            raise Retryable(f"upload: {type(error).__name__}") from error

    async def _is_shared(self, file_id: str, turn: Turn) -> bool:
        for wait in SHARING_SECONDS:
            await self._api.clock.sleep(wait)
            try:
                answer = await self._api.call("files.info", repeatable=True, patience=1.0, file=file_id)
            except ThreadbotError:
                return False  # not to be known now; that must not look like a call worth repeating
            shares = (answer.get("file") or {}).get("shares") or {}
            if any(turn.thread.channel in places for places in shares.values() if isinstance(places, dict)):
                return True
        return False

    def _is_slack(self, url: str) -> bool:
        try:
            parts, api = urlsplit(url), urlsplit(self._api.url)
            origin = (parts.scheme, parts.hostname, parts.port)
            home = (api.scheme, api.hostname, api.port)
        except ValueError:
            return False
        host = parts.hostname or ""
        trusted = parts.scheme == "https" and parts.port in (None, 443)
        return origin == home or (
            trusted and any(host == name or host.endswith(f".{name}") for name in _HOSTS)
        )


def _check(response: aiohttp.ClientResponse, attachment: Attachment) -> None:
    match response.status:
        case 200:
            pass
        case 429:
            raise Retryable("download: rate limited", retry_after=wait_of(response.headers))
        case status if status >= 500:
            raise Retryable(f"download: HTTP {status}")
        case status if 300 <= status < 400:
            raise Rejected(_no_access(attachment))
        case status:
            _log.warning("slack.download_refused", status=status)
            raise Rejected(f"“{attachment.name}” is gone from Slack or closed to me; please upload it again.")
    is_page = attachment.media_type.startswith("text/html") or attachment.name.lower().endswith(
        (".html", ".htm")
    )
    if response.content_type == "text/html" and not is_page:
        _log.error("slack.login_page", hint="the scope files:read is missing, or the app was not reinstalled")
        raise Rejected(_no_access(attachment))


def _no_access(attachment: Attachment) -> str:
    return f"Slack does not let me read “{attachment.name}”; the person who runs this bot should check files:read."
