"""What the operator may say, what is said back when it is wrong, and that no secret is ever shown."""

from __future__ import annotations

import ast
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bot.errors import Misconfigured
from bot.settings import Address, Settings, known_variables, load_settings

Environment = Callable[..., None]
BOT, APP = "xoxb-12345-abcdef", "xapp-1-A1-12345-abcdef"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environment:
    """Nothing but what the test sets, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in known_variables():
        monkeypatch.delenv(name, raising=False)

    def put(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def problems() -> tuple[str, ...]:
    with pytest.raises(Misconfigured) as caught:
        load_settings()
    return caught.value.problems


def test_an_empty_environment_is_enough() -> None:
    settings = load_settings()
    assert settings.redis_url is None
    assert settings.data == Path(".threadbot")
    assert settings.http == Address("127.0.0.1", 8080)
    assert settings.slack_api_url == "https://slack.com/api"
    assert settings.slack_mode is None
    assert settings.engine_kind == "assistants"
    assert settings.assistants_server() is None


def test_empty_is_absent(environment: Environment) -> None:
    environment(**dict.fromkeys(known_variables(), ""))
    assert load_settings() == Settings.model_construct()


def test_the_environment_wins_over_the_file(environment: Environment) -> None:
    Path(".env").write_text('THREADBOT_MODEL=file\nTHREADBOT_HTTP="0.0.0.0:1"\nOTHER=ignored\n')
    environment(THREADBOT_MODEL="environment")
    settings = load_settings()
    assert settings.model == "environment"
    assert str(settings.http) == "0.0.0.0:1"


def test_settings_never_change() -> None:
    with pytest.raises(ValidationError):
        load_settings().model = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variables", "mode"),
    [
        ({"SLACK_BOT_TOKEN": BOT}, None),
        ({"SLACK_BOT_TOKEN": BOT, "SLACK_APP_TOKEN": APP}, "socket"),
        ({"SLACK_BOT_TOKEN": BOT, "SLACK_SIGNING_SECRET": "5ec"}, "http"),
        ({"SLACK_BOT_TOKEN": BOT, "SLACK_APP_TOKEN": APP, "SLACK_SIGNING_SECRET": "5ec"}, "socket"),
    ],
)
def test_slack_is_heard_by_socket_before_http(
    environment: Environment, variables: dict[str, str], mode: str | None
) -> None:
    environment(**variables)
    assert load_settings().slack_mode == mode


@pytest.mark.parametrize(
    ("variables", "kind"),
    [
        ({}, "assistants"),
        ({"OPENAI_API_KEY": "sk-1"}, "responses"),
        ({"OPENAI_BASE_URL": "http://host/v1"}, "responses"),
        ({"OPENAI_API_KEY": "sk-1", "THREADBOT_ENGINE": "assistants"}, "assistants"),
        ({"THREADBOT_ENGINE": "responses"}, "responses"),
        ({"THREADBOT_MODEL_URL": "http://host/v1"}, "assistants"),
    ],
)
def test_a_key_or_a_base_url_asks_for_responses(
    environment: Environment, variables: dict[str, str], kind: str
) -> None:
    environment(**variables)
    assert load_settings().engine_kind == kind


def test_the_assistants_server_is_the_base_url(environment: Environment) -> None:
    environment(THREADBOT_ENGINE="assistants", OPENAI_BASE_URL="http://host:1/v1/")
    assert load_settings().assistants_server() == "http://host:1/v1"


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"THREADBOT_ENGINE": "responses"},
            "THREADBOT_ENGINE is responses: the responses engine is not part of",
        ),
        (
            {"OPENAI_API_KEY": "sk-1"},
            "OPENAI_API_KEY is set, which asks for the responses engine: the responses",
        ),
        (
            {"OPENAI_BASE_URL": "http://h/v1"},
            "OPENAI_BASE_URL is set, which asks for the responses engine: the",
        ),
        (
            {"OPENAI_BASE_URL": "https://api.openai.com/v1", "THREADBOT_ENGINE": "assistants"},
            "OPENAI_BASE_URL is OpenAI's own, which ended its Assistants API",
        ),
    ],
)
def test_an_engine_that_does_not_exist_is_said_when_it_would_be_used(
    environment: Environment, variables: dict[str, str], sentence: str
) -> None:
    environment(**variables)
    settings = load_settings()
    with pytest.raises(Misconfigured) as caught:
        settings.assistants_server()
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("SLACK_BOT_TOKEN", APP, "holds an app-level token, which belongs in SLACK_APP_TOKEN"),
        ("SLACK_BOT_TOKEN", "xoxp-1-abc", "holds a user token"),
        ("SLACK_BOT_TOKEN", "xoxe.xoxb-1-abc", "holds a rotating token"),
        ("SLACK_BOT_TOKEN", "abc", "does not start with xoxb-"),
        ("SLACK_BOT_TOKEN", "xoxb-…", "is not whole"),
        ("SLACK_BOT_TOKEN", f'"{BOT}"', "has quotes"),
        ("SLACK_BOT_TOKEN", f"{BOT} ", "has a space"),
        ("SLACK_BOT_TOKEN", f"{BOT}\n", "has a space"),
        ("SLACK_APP_TOKEN", BOT, "holds a bot token, which belongs in SLACK_BOT_TOKEN"),
        ("SLACK_SIGNING_SECRET", BOT, "holds a bot token"),
        ("OPENAI_API_KEY", "sk 1", "has a space"),
        ("OPENAI_BASE_URL", "localhost:8000", "is not a URL that begins with https:// or http://"),
        ("OPENAI_BASE_URL", "http://host:port", "is not a URL"),
        ("OPENAI_BASE_URL", "http://u:p@host", "has a user, password"),
        ("THREADBOT_MODEL_URL", "ftp://host", "is not a URL that begins"),
        ("SLACK_API_URL", "https://", "is not a URL that begins"),
        ("DISCORD_GATEWAY_URL", "https://host", "is not a URL that begins with wss:// or ws://"),
        ("DISCORD_TOKEN", "Bot-abc", "begins with the word Bot"),
        ("THREADBOT_HTTP", "8080", "is not host:port"),
        ("THREADBOT_HTTP", ":8080", "is not host:port"),
        ("THREADBOT_HTTP", "host:http", "is not host:port"),
        ("THREADBOT_HTTP", "host:65536", "is not host:port"),
        ("THREADBOT_HTTP", "::1:8080", "without brackets"),
        ("THREADBOT_ENGINE", "gpt", "is neither assistants nor responses"),
        ("THREADBOT_DATA", __file__, "is not a folder"),
        ("REDIS_URL", "http://host", "has the scheme 'http'"),
        ("REDIS_URL", "'redis://host'", "has quotes"),
    ],
)
def test_an_odd_value_is_one_sentence_that_names_the_variable(
    environment: Environment, name: str, value: str, sentence: str
) -> None:
    environment(SLACK_BOT_TOKEN=BOT)
    environment(**{name: value})
    (problem,) = problems()
    assert problem.startswith(f"{name} ")
    assert sentence in problem
    assert problem.endswith((".", "?"))


def test_every_problem_is_told_at_once(environment: Environment) -> None:
    environment(
        SLACK_APP_TOKEN="nope",
        REDIS_URL="redis://",
        THREADBOT_HTTP="here",
        THREADBOT_MODEL_KEY="k",
        SLACK_BOT_TOKN="nope",
    )
    told = problems()
    assert [problem.split()[0] for problem in told] == [
        "REDIS_URL", "THREADBOT_HTTP", "SLACK_APP_TOKEN", "SLACK_BOT_TOKN", "SLACK_APP_TOKEN", "THREADBOT_MODEL_KEY",
    ]  # fmt: skip
    assert "did you mean SLACK_BOT_TOKEN?" in told[3]


def test_a_file_that_cannot_be_read_is_said() -> None:
    Path(".env").write_bytes(b"THREADBOT_MODEL=\xff\xfe")
    assert problems()[0].startswith(".env cannot be read")


SECRET_NAMES = ["OPENAI_API_KEY", "THREADBOT_MODEL_KEY", "SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "SLACK_SIGNING_SECRET",
                "DISCORD_TOKEN", "REDIS_URL", "OPENAI_BASE_URL", "THREADBOT_MODEL_URL"]  # fmt: skip


@given(
    st.sampled_from(SECRET_NAMES),
    st.sampled_from(
        ["{}", "xoxb-{}", "xapp-{}", '"{}"', "{} ", "Bot {}", "redis://:{}@host", "https://u:{}@host", "é{}"]
    ),
)
def test_no_secret_is_shown_whatever_is_wrong_with_it(name: str, form: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THREADBOT_MODEL_URL", "http://host")
        patch.setenv("SLACK_BOT_TOKEN", BOT)
        patch.setenv(name, form.format("S3CR3T"))
        try:
            settings = load_settings()
            shown = f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"
        except Misconfigured as error:
            shown = f"{error!r} {pickle.dumps(error.problems)!r} {traceback.format_exc()}"
    assert "S3CR3T" not in shown


def test_nothing_else_reads_the_environment() -> None:
    root = Path(__file__).parents[2]
    readers = set()
    for file in [*root.glob("bot/**/*.py"), *root.glob("adapters/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"}:
                readers.add(file.relative_to(root).as_posix())
    assert readers <= {"bot/settings.py"}
