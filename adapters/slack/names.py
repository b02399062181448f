"""Display names of people, looked up once and kept in bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

from adapters.slack.api import Api
from adapters.slack.fields import name_of
from bot.errors import Misconfigured, Rejected, ThreadbotError

_ROOM = 5_000
_PATIENCE_SECONDS = 0.7  # Slack waits three seconds for its answer; a name is not worth more of them


class Names(Mapping[str, str]):
    """User id to name, of those known. Needs `users:read`; without it everybody keeps their id."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[str, str] = {}
        self._asking: dict[str, asyncio.Future[None]] = {}

    def __getitem__(self, user: str) -> str:
        return self._known[user]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    async def learn(self, user: str) -> str:
        """The name, empty when Slack will not tell in time. One call, however many ask at once."""
        if user in self._known:
            return self._known[user]
        if (asked := self._asking.get(user)) is not None:
            await asyncio.wait({asked}, timeout=_PATIENCE_SECONDS)
            return self._known.get(user, "")
        asked = self._asking[user] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                answer = await self._api.call("users.info", user=user)
            self._keep(user, name_of(answer.get("user")))
        except (Misconfigured, Rejected):
            self._keep(user, "")  # it would be the same next time
        except (ThreadbotError, TimeoutError):
            pass
        finally:
            del self._asking[user]
            asked.set_result(None)
        return self._known.get(user, "")

    def _keep(self, user: str, name: str) -> None:
        if len(self._known) >= _ROOM:
            del self._known[next(iter(self._known))]
        self._known[user] = name
