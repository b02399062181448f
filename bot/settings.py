"""Everything the operator says through the environment and `.env`: read once, checked, frozen.

The only place that looks at the environment. The variables are an interface: their names and meanings stay.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    InstanceOf,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bot.errors import Misconfigured
from bot.redis_url import RedisUrl

EngineKind = Literal["assistants", "responses"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 takes any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


# --- what a value must look like: each check raises ValueError with the rest of a sentence that begins with the name -


def _clean(value: str) -> str:
    if value[:1] in {'"', "'"} or value[-1:] in {'"', "'"}:
        raise ValueError("has quotes around its value: remove them.")
    if not value.isprintable() or any(character.isspace() for character in value):
        raise ValueError("has a space, tab or line break in its value: remove it.")
    return value


def _secret(explain: Callable[[str], str]) -> AfterValidator:
    """`explain` returns what is wrong with a clean value, or nothing."""

    def check(secret: SecretStr) -> SecretStr:
        if problem := explain(_clean(secret.get_secret_value())):
            raise ValueError(problem)
        return secret

    return AfterValidator(check)


SLACK_TOKENS = {
    "xoxb-": "a bot token, which belongs in SLACK_BOT_TOKEN",
    "xapp-": "an app-level token, which belongs in SLACK_APP_TOKEN",
    "xoxp-": "a user token, which Threadbot does not use",
    "xoxe": "a rotating token: turn token rotation off for this app",
}


def _is_token(prefix: str, where: str) -> Callable[[str], str]:
    def explain(value: str) -> str:
        if value.startswith(prefix):
            return (
                ""
                if value.isascii() and len(value) > len(prefix) + 3
                else f"is not whole: copy it again {where}."
            )
        for other, what in SLACK_TOKENS.items():
            if value.startswith(other):
                return f"holds {what}; the right one starts with {prefix} {where}."
        return f"does not start with {prefix}: copy it {where}."

    return explain


def _is_no_token(value: str) -> str:
    for prefix, what in SLACK_TOKENS.items():
        if value.startswith(prefix):
            return f"holds {what}."
    return ""


def _is_discord(value: str) -> str:
    if value.lower().startswith("bot"):
        return "begins with the word Bot: leave that word out."
    return _is_no_token(value)


def _is_url(*schemes: str) -> AfterValidator:
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)

    def check(value: str) -> str:
        _clean(value)
        try:
            parts = urlsplit(value)
            host, _ = parts.hostname, parts.port
        except ValueError:  # its text holds the value, and that may hold a password
            raise ValueError(f"is not a URL: write {wanted}host[:port]/path.") from None
        if parts.scheme not in schemes or not host:
            raise ValueError(f"is not a URL that begins with {wanted}.")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ValueError(
                "has a user, password, query or fragment in it: write only scheme, host, port and path."
            )
        return value.rstrip("/")

    return AfterValidator(check)


def _address(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    host, colon, port = _clean(value).rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("has an IPv6 address without brackets: write [::1]:8080.")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(
            "is not host:port: write 127.0.0.1:8080, or 0.0.0.0:8080 to be reached from outside."
        )
    return Address(host, int(port))


def _redis(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return RedisUrl.parse(_clean(value))
    except Misconfigured as error:
        raise ValueError(str(error)) from None


def _engine(value: str) -> str:
    if value not in {"assistants", "responses"}:
        raise ValueError("is neither assistants nor responses: write one of them, or leave it out.")
    return value


def _folder(value: Path) -> Path:
    if value.exists() and not value.is_dir():
        raise ValueError(f"is {value}, which is not a folder: name a folder.")
    return value.expanduser()


HttpUrl = Annotated[str, _is_url("https", "http")]
Key = Annotated[SecretStr, _secret(_is_no_token)]


class Settings(BaseSettings):
    """Absent and empty are the same. Raises Misconfigured with every problem; shows no secret, whatever prints it."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, frozen=True, extra="ignore", hide_input_in_errors=True
    )

    redis_url: Annotated[InstanceOf[RedisUrl] | None, NoDecode, BeforeValidator(_redis)] = Field(
        None, alias="REDIS_URL", exclude=True
    )
    openai_api_key: Key | None = Field(None, alias="OPENAI_API_KEY")
    openai_base_url: HttpUrl | None = Field(None, alias="OPENAI_BASE_URL")

    engine: Annotated[EngineKind, BeforeValidator(_engine)] | None = Field(None, alias="THREADBOT_ENGINE")
    model: Annotated[str, AfterValidator(_clean)] | None = Field(None, alias="THREADBOT_MODEL")
    model_url: HttpUrl | None = Field(None, alias="THREADBOT_MODEL_URL")
    model_key: Key | None = Field(None, alias="THREADBOT_MODEL_KEY")
    config: Path | None = Field(None, alias="THREADBOT_CONFIG")
    data: Annotated[Path, AfterValidator(_folder)] = Field(Path(".threadbot"), alias="THREADBOT_DATA")
    http: Annotated[InstanceOf[Address], NoDecode, BeforeValidator(_address)] = Field(
        Address("127.0.0.1", 8080), alias="THREADBOT_HTTP"
    )

    slack_bot_token: (
        Annotated[SecretStr, _secret(_is_token("xoxb-", "from OAuth & Permissions of your Slack app"))] | None
    ) = Field(None, alias="SLACK_BOT_TOKEN")
    slack_app_token: (
        Annotated[SecretStr, _secret(_is_token("xapp-", "from Basic Information, App-Level Tokens"))] | None
    ) = Field(None, alias="SLACK_APP_TOKEN")
    slack_signing_secret: Key | None = Field(None, alias="SLACK_SIGNING_SECRET")
    slack_api_url: HttpUrl = Field(
        "https://slack.com/api", alias="SLACK_API_URL"
    )  # without a slash at its end

    discord_token: Annotated[SecretStr, _secret(_is_discord)] | None = Field(None, alias="DISCORD_TOKEN")
    discord_api_url: HttpUrl | None = Field(None, alias="DISCORD_API_URL")
    discord_gateway_url: Annotated[str, _is_url("wss", "ws")] | None = Field(
        None, alias="DISCORD_GATEWAY_URL"
    )

    @model_validator(mode="wrap")
    @classmethod
    def _report_every_problem(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        problems = [*_misspelt(os.environ, known_variables()), *_missing_partners(data)]
        try:
            settings = handler(data)
        except ValidationError as error:
            raise Misconfigured(*map(_sentence, error.errors()), *problems) from None  # it holds the values
        if problems:
            raise Misconfigured(*problems)
        return settings

    @property
    def engine_kind(self) -> EngineKind:
        if self.engine:
            return self.engine
        return "responses" if self.openai_api_key or self.openai_base_url else "assistants"

    @property
    def slack_mode(self) -> Literal["socket", "http"] | None:
        """How Slack is heard; None: it is not, which is fine for a worker, which only speaks."""
        if not self.slack_bot_token:
            return None
        if self.slack_app_token:
            return "socket"
        return "http" if self.slack_signing_secret else None

    def assistants_server(self) -> str | None:
        """Base URL of the Assistants server to talk to; None: the embedded one. Misconfigured: there is none."""
        if self.engine_kind == "responses":
            why = (
                "THREADBOT_ENGINE is responses"
                if self.engine
                else f"{'OPENAI_API_KEY' if self.openai_api_key else 'OPENAI_BASE_URL'} is set, which asks for the "
                "responses engine"
            )
            raise Misconfigured(
                f"{why}: the responses engine is not part of this version; set THREADBOT_ENGINE=assistants, with "
                "OPENAI_BASE_URL for an Assistants server of your own, or without it for the embedded one "
                "(THREADBOT_MODEL_URL, THREADBOT_MODEL_KEY and THREADBOT_MODEL name the model behind it)."
            )
        if self.openai_base_url and urlsplit(self.openai_base_url).hostname == "api.openai.com":
            raise Misconfigured(
                "OPENAI_BASE_URL is OpenAI's own, which ended its Assistants API on 2026-08-26: leave "
                "OPENAI_BASE_URL out to use the embedded one, with THREADBOT_MODEL_URL=https://api.openai.com/v1."
            )
        return self.openai_base_url


def load_settings() -> Settings:
    """From the environment and `.env` in the current folder; the environment wins. Raises Misconfigured."""
    try:
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f".env cannot be read ({type(error).__name__}): correct or remove it.") from None


def known_variables() -> tuple[str, ...]:
    """Names of all variables, in the order of the class."""
    return tuple(str(field.alias) for field in Settings.model_fields.values())


def _misspelt(environ: Mapping[str, str], known: tuple[str, ...]) -> Iterator[str]:
    for name in sorted(environ):
        if name.upper().startswith(("THREADBOT_", "SLACK_", "DISCORD_")) and name.upper() not in known:
            for meant in get_close_matches(name.upper(), known, n=1, cutoff=0.9):
                yield f"{name} is not a variable of Threadbot: did you mean {meant}?"


def _missing_partners(given: Mapping[str, Any]) -> Iterator[str]:
    for part in ("SLACK_APP_TOKEN", "SLACK_SIGNING_SECRET"):
        if given.get(part) and not given.get("SLACK_BOT_TOKEN"):
            yield f"{part} is set but SLACK_BOT_TOKEN is not: without it nothing can be said in Slack; set both."
    if given.get("THREADBOT_MODEL_KEY") and not given.get("THREADBOT_MODEL_URL"):
        yield "THREADBOT_MODEL_KEY is set but THREADBOT_MODEL_URL is not: set the URL that the key is for."


def _sentence(error: Mapping[str, Any]) -> str:
    """One problem as pydantic found it; its own words, which could quote a value, are not used."""
    name = str(error["loc"][0])
    cause = error.get("ctx", {}).get("error")
    problem = str(cause) if isinstance(cause, ValueError) else "cannot be read: correct or remove it."
    return problem if problem.startswith(name) else f"{name} {problem}"
