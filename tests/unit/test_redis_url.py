"""REDIS_URL: what may be written, one clear sentence for what may not, and no secret in any of it."""

from __future__ import annotations

import traceback

import pytest
from docket._redis_sentinel import parse_sentinel_url
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import Misconfigured
from bot.redis_url import RedisUrl


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("redis://host", "redis://host:6379/0"),
        ("redis://host:1/2", "redis://host:1/2"),
        ("valkey://u:p@host/", "redis://u:p@host:6379/0"),
        ("rediss://:p%40@host:1?socket_timeout=3", "rediss://:p%40@host:1/0?socket_timeout=3"),
        ("valkeys://[::1]:7", "rediss://[::1]:7/0"),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
        ("redis+cluster://u:p@host:7000", "redis://u:p@host:7000/0"),
        ("valkeys+cluster://host", "rediss://host:6379/0"),
        ("redis+sentinel://u:p@one,[::1]:9/main/3?max_connections=5", "redis://u:p@one:26379/3?max_connections=5"),
    ],
)  # fmt: skip
def test_redis_py_gets_one_server(text: str, plain: str) -> None:
    assert RedisUrl.parse(text).plain == plain


@pytest.mark.parametrize(
    "text",
    [
        "redis+sentinel://one/main",
        "rediss+sentinel://u:p@one:1,two:2,[::1]:3/main/4",
        "valkey+sentinel://one,two/main?socket_timeout=3",
    ],
)
def test_docket_reads_the_same_sentinels(text: str) -> None:
    ours = RedisUrl.parse(text)
    theirs = parse_sentinel_url(ours.for_docket())
    assert (list(ours.hosts), ours.service, ours.tls) == (
        theirs.sentinels, theirs.service_name, theirs.connection_kwargs.get("ssl", False),
    )  # fmt: skip


def test_docket_gets_a_pool_that_is_large_enough_unless_the_operator_says_otherwise() -> None:
    more = "max_connections=300&health_check_interval=30"
    assert RedisUrl.parse("redis://h/0").for_docket() == f"redis://h/0?{more}"
    assert RedisUrl.parse("redis://h/0?a=b").for_docket() == f"redis://h/0?a=b&{more}"
    assert RedisUrl.parse("unix:///s?max_connections=9").for_docket().count("max_connections") == 1
    assert RedisUrl.parse("valkey://h/0?max_connections=9&health_check_interval=1").for_docket() == (
        "redis://h/0?max_connections=9&health_check_interval=1"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not a URL"),
        ("localhost:6379", "not a URL"),
        ("http://host", "scheme 'http'"),
        ("memory://", "scheme 'memory'"),
        ("redis://", "names no host"),
        ("redis://user:secret@/0", "names no host"),
        ("redis://:se/cret@host", "cannot be read"),
        ("redis://host:port", "cannot be read"),
        ("redis://host:99999", "cannot be read"),
        ("redis://host/zero", "not a number"),
        ("redis://host/1/2", "not a number"),
        ("redis://one,two/0", "several hosts"),
        ("redis+cluster://one:1,two:2", "several hosts"),
        ("redis+cluster://host/3", "only database 0"),
        ("redis+sentinel://host:26379", "names no service"),
        ("unix://relative/path", "absolute path"),
    ],
)
def test_what_is_wrong_is_one_sentence_that_names_the_variable(text: str, sentence: str) -> None:
    with pytest.raises(Misconfigured, match=sentence) as caught:
        RedisUrl.parse(text)
    (problem,) = caught.value.problems
    assert problem.startswith("REDIS_URL")
    assert "se/cret" not in problem
    assert "secret" not in problem


SECRETS = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1).map(
    lambda x: f"S3CR{x}3T"
)


@given(
    st.sampled_from(["redis", "rediss", "valkey", "redis+cluster", "redis+sentinel", "unix", "http"]), SECRETS
)
def test_a_password_is_never_shown_however_badly_it_is_written(scheme: str, secret: str) -> None:
    text = f"{scheme}://user:{secret}@host:6379/0?password={secret}&sentinel_password={secret}"
    try:
        shown = repr(RedisUrl.parse(text)) + str(RedisUrl.parse(text))
    except Misconfigured:
        shown = traceback.format_exc()
        shown = "".join(
            line for line in shown.splitlines() if not line.startswith("    ")
        )  # not our own source
    assert "S3CR" not in shown
