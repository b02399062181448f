"""Lua scripts that survive their server: sent by hash, and in full to a server that does not know them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

from redis import exceptions as vendor

from bot.redis_client import Argument, PatientRedis, RedisClient

Call: TypeAlias = tuple[Sequence[str], Sequence[Argument]]


class Script:
    """A Lua script by its hash, sent in full only to a server that does not know it (yet, or after a restart).

    All keys of one call share one hash tag, `{thread}`. It may run twice when its answer gets lost.
    """

    __slots__ = ("body", "name", "sha")

    def __init__(self, name: str, body: str) -> None:
        self.name = name
        self.body = body
        self.sha = hashlib.sha1(body.encode(), usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        return f"Script({self.name!r})"

    async def __call__(self, client: RedisClient, keys: Sequence[str], args: Sequence[Argument] = ()) -> Any:
        try:
            return await client.evalsha(self.sha, len(keys), *keys, *args)
        except vendor.NoScriptError:
            return await client.eval(
                self.body, len(keys), *keys, *args
            )  # and the server knows it from now on

    async def behind(
        self,
        client: RedisClient,
        command: tuple[Argument, ...],
        keys: Sequence[str],
        args: Sequence[Argument],
    ) -> Any:
        """The same, in one round trip behind another command (which on a Cluster may go to another node)."""
        call = ("EVALSHA", self.sha, len(keys), *keys, *args)
        for answer in (answers := await cast(PatientRedis, client).together([command, call])):
            if isinstance(answer, vendor.NoScriptError):
                return await self(client, keys, args)
            if isinstance(answer, Exception):
                raise answer
        return answers[-1]

    async def many(self, client: RedisClient, calls: Sequence[Call]) -> list[Any]:
        """Every call in one round trip (a Cluster: one a node); answers in order. Not a transaction.

        Calls that meet a server without the script are made again with its text; the others are not repeated.
        """
        answers = await self._pipeline(client, "EVALSHA", self.sha, calls)
        unknown = [index for index, answer in enumerate(answers) if isinstance(answer, vendor.NoScriptError)]
        if unknown:
            again = await self._pipeline(client, "EVAL", self.body, [calls[index] for index in unknown])
            for index, answer in zip(unknown, again, strict=True):
                answers[index] = answer
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _pipeline(self, client: RedisClient, verb: str, what: str, calls: Sequence[Call]) -> list[Any]:
        commands = [(verb, what, len(keys), *keys, *args) for keys, args in calls]
        return await cast(PatientRedis, client).together(commands)
