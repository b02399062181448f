"""What Redis's errors mean: the one table from redis-py to `bot.errors`."""

from __future__ import annotations

from redis import exceptions as vendor

from bot.errors import Misconfigured, Retryable
from bot.redis_url import RedisUrl

# What only the operator can mend: the error, a part of its text, the sentence.
MISTAKES: tuple[tuple[type[Exception], str, str], ...] = (
    (vendor.AuthenticationError, "", "refuses the user or password: correct them in REDIS_URL."),
    (
        vendor.AuthenticationWrongNumberOfArgsError,
        "",
        "wants a user and a password: write both in REDIS_URL.",
    ),
    (vendor.AuthorizationError, "", "refuses the user: correct it in REDIS_URL."),
    (
        vendor.NoPermissionError,
        "",
        "does not let its user do what Threadbot needs: allow all keys, channels and commands (~* &* +@all).",
    ),
    (vendor.ResponseError, "DB index", "has no such database: end REDIS_URL with /0."),
    (
        vendor.ConnectionError,
        "CERTIFICATE_VERIFY_FAILED",
        "has a certificate that is not trusted: add ?ssl_ca_certs=/path/to/ca.pem to REDIS_URL.",
    ),
    (vendor.RedisClusterException, "not enabled", "is not a Cluster: write redis:// in REDIS_URL."),
)

# First words of a server that will take the command later (https://valkey.io/topics/protocol/ and the shared errors
# in its src/server.c). NOREPLICAS and MISCONF: it cannot make the write safe now; OOM: it may get room.
PASSING = (
    "LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "MISCONF", "UNBLOCKED", "BUSY", "OOM",
)  # fmt: skip
PASSING_ERRORS = (
    vendor.ReadOnlyError,
    vendor.TryAgainError,
    vendor.ClusterDownError,
    vendor.OutOfMemoryError,
)
AWAY = (
    vendor.ConnectionError,
    vendor.TimeoutError,
    vendor.ClusterError,
    vendor.RedisClusterException,
    OSError,
)


def translate(error: Exception, url: RedisUrl) -> Misconfigured | Retryable | None:
    """Our error for redis-py's; None when it is a bug. The sentence holds no secret and no data."""
    for kind, text, sentence in MISTAKES:
        if isinstance(error, kind) and text in str(error):
            return Misconfigured(f"Redis at {url} {sentence}")
    if isinstance(error, AWAY) or passing(error):
        return Retryable(f"Redis at {url} is away ({type(error).__name__})")
    return None


def passing(error: Exception) -> bool:
    # redis-py keeps the first word, except where it has a class of its own for it.
    if not isinstance(error, vendor.ResponseError):
        return False
    return isinstance(error, PASSING_ERRORS) or str(error).startswith(PASSING)
