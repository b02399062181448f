"""What REDIS_URL may say, the same for docket and for us.

    redis://[user:password@]host[:port][/db]           one server; rediss:// with TLS; valkey:// and valkeys:// too
    unix:///path/to/socket[?db=N]                      one server on this machine
    redis+sentinel://[user:password@]host[:port],…/service[/db]    Sentinel knows the primary (rediss+sentinel://)
    redis+cluster://[user:password@]host[:port]        any node of a Cluster (rediss+cluster://)

The forms with a plus are docket's (docket 0.27, _redis.py and _redis_sentinel.py). Options of redis-py may follow
as a query (`?socket_timeout=3`); Sentinel's own user is `?sentinel_username=…&sentinel_password=…`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from bot.errors import Misconfigured

Kind = Literal["single", "sentinel", "cluster"]

SCHEME = re.compile(r"(?P<brand>redis|valkey)(?P<tls>s?)(\+(?P<kind>sentinel|cluster))?\Z")
PORTS: dict[Kind, int] = {"single": 6379, "sentinel": 26379, "cluster": 6379}
FORMS = (
    "use redis://host:6379/0, rediss://… for TLS, unix:///path, redis+sentinel://host:26379/service or "
    "redis+cluster://host:6379"
)


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A checked URL. Only `shown` (and so `str` and `repr`) is free of secrets."""

    kind: Kind
    shown: str
    text: str = field(repr=False)  # as docket takes it
    plain: str = field(repr=False)  # as redis-py takes it: one server; for Sentinel its host means nothing
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return self.shown

    @property
    def tls(self) -> bool:
        return self.plain.startswith("rediss:")

    @classmethod
    def parse(cls, text: str) -> RedisUrl:
        """Raise Misconfigured with a sentence that names REDIS_URL and holds no secret."""
        scheme, separator, rest = text.strip().partition("://")
        shown = f"{scheme}://{_without_secrets(rest)}" if separator else "it"
        if not separator:
            raise Misconfigured(f"REDIS_URL is not a URL: {FORMS}.")
        location, _, query = rest.partition("?")
        options = tuple(parse_qsl(query, keep_blank_values=True))
        if scheme == "unix":
            if not location.rpartition("@")[2].startswith("/"):
                raise Misconfigured(
                    f"REDIS_URL {shown} names no absolute path: write unix:///path/to/socket."
                )
            whole = f"unix://{rest}"
            return cls("single", shown, whole, whole, options=options)
        if not (match := SCHEME.match(scheme)):
            raise Misconfigured(f"REDIS_URL has the scheme {_short(scheme)}, which is not known: {FORMS}.")
        kind: Kind = match["kind"] or "single"  # type: ignore[assignment]  # the pattern allows nothing else
        base = f"redis{match['tls']}"
        authority, _, path = location.partition("/")
        user, at, members = authority.rpartition("@")
        hosts = tuple(_host(member, kind, shown) for member in members.split(",") if member.strip())
        segments = [unquote(part) for part in path.split("/") if part]
        service = ""
        if kind == "sentinel":
            if not segments:
                raise Misconfigured(
                    f"REDIS_URL {shown} names no service: write redis+sentinel://host:26379/service."
                )
            service, *segments = segments
        elif len(hosts) > 1:
            raise Misconfigured(
                f"REDIS_URL {shown} names several hosts: name one, the others are found through it."
            )
        if not hosts:
            raise Misconfigured(f"REDIS_URL {shown} names no host: {FORMS}.")
        database = _database(segments, kind, shown)
        host, port = hosts[0]
        bracketed = f"[{host}]" if ":" in host else host
        return cls(
            kind,
            shown,
            f"{base}{f'+{kind}' if kind != 'single' else ''}://{rest}",
            f"{base}://{user}{at}{bracketed}:{port}/{database}{'?' if query else ''}{query}",
            hosts,
            service,
            options,
        )

    def for_docket(self) -> str:
        """The URL docket needs: it fails on a pool of 100 connections (docket docs, "Production")."""
        given = {name for name, _ in self.options}
        wanted = [("max_connections", "300"), ("health_check_interval", "30")]
        more = urlencode([pair for pair in wanted if pair[0] not in given])
        return f"{self.text}{'&' if '?' in self.text else '?'}{more}" if more else self.text


def _without_secrets(rest: str) -> str:
    """Whatever follows the last @, without options. A password that should have been quoted is cut as well."""
    user, at, place = rest.rpartition("@")
    return f"{'***@' if user or at else ''}{re.split('[?#]', place)[0]}"


def _short(scheme: str) -> str:
    return repr(scheme if len(scheme) <= 20 else scheme[:20] + "…")


def _host(member: str, kind: Kind, shown: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{member.strip()}")
        host, port = parts.hostname, parts.port
    except ValueError:  # its text holds what could not be read, and that may be a password
        raise Misconfigured(
            f"REDIS_URL {shown} has a host or port that cannot be read: write host:port, and quote special "
            "characters of a password (@ is %40, / is %2F, # is %23)."
        ) from None
    if not host:
        raise Misconfigured(f"REDIS_URL {shown} names no host: {FORMS}.")
    return host, port or PORTS[kind]


def _database(segments: list[str], kind: Kind, shown: str) -> int:
    if not segments:
        return 0
    try:
        (database,) = (int(segment) for segment in segments)
    except ValueError:
        raise Misconfigured(
            f"REDIS_URL {shown} has a database that is not a number: end it with /0."
        ) from None
    if kind == "cluster" and database:
        raise Misconfigured(f"REDIS_URL {shown} asks for database {database}: a Cluster has only database 0.")
    return database
