"""The table of Web API methods. A method is a function of (slack, params); it raises SlackError."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.fakes.slack.core import SlackCore
from tests.fakes.slack.model import Json, SlackError

Handler = Callable[[SlackCore, Json], Json]


@dataclass(frozen=True, slots=True)
class Method:
    """`scope`: what the token needs; alternatives are separated by `|`, None for nothing."""

    name: str
    run: Handler
    scope: str | None
    app_token: bool = False


METHODS: dict[str, Method] = {}


def method(name: str, scope: str | None = None, *, app_token: bool = False) -> Callable[[Handler], Handler]:
    def register(run: Handler) -> Handler:
        METHODS[name] = Method(name, run, scope, app_token)
        return run

    return register


def need(params: Json, *names: str) -> None:
    for name in names:
        if params.get(name) in (None, ""):
            detail = f"[ERROR] missing required field: {name}"
            raise SlackError("invalid_arguments", response_metadata={"messages": [detail]})


def truth(value: object) -> bool:
    """Slack's booleans: true, "true", 1 and "1"."""
    return str(value).lower() in ("true", "1")
