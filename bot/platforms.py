"""Which platforms the settings name, each imported only when it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.errors import Misconfigured
from bot.ports import Gateway, Outlet
from bot.settings import Settings

if TYPE_CHECKING:
    from starlette.routing import BaseRoute


@dataclass(frozen=True, slots=True)
class Platform:
    """Both halves of a platform. `gateway` is None where only speaking is configured; `check` is for the start:
    it raises Misconfigured with every problem of tokens and scopes, Retryable when the platform is away.
    """

    outlet: Outlet
    gateway: Gateway | None
    check: Callable[[], Awaitable[None]]
    routes: Sequence[BaseRoute] = ()


def platforms_of(settings: Settings, *, hearing: bool) -> dict[str, Platform]:
    """`hearing`: with their gateways; who only speaks need not carry them. Raises Misconfigured when there is none."""
    found = {}
    if settings.slack_bot_token:
        found["slack"] = _slack(settings, settings.slack_bot_token.get_secret_value(), hearing=hearing)
    if not found and settings.discord_token:
        raise Misconfigured("DISCORD_TOKEN is set, but Discord is not part of this version: set up Slack.")
    if not found:
        raise Misconfigured(
            "No platform is configured: set SLACK_BOT_TOKEN and SLACK_APP_TOKEN (`threadbot manifest slack` prints "
            "the app to create), or try `threadbot demo`."
        )
    return found


def heard(platforms: dict[str, Platform], names: Sequence[str] | None) -> dict[str, Gateway]:
    """The gateways to run: those named, or all there are. Raises Misconfigured for one that cannot hear."""
    if names is None:
        hearing = {name: platform.gateway for name, platform in platforms.items() if platform.gateway}
        if not hearing:
            raise Misconfigured(DEAF)
        return hearing
    hearing = {}
    for name in names:
        gateway = platforms[name].gateway if name in platforms else None
        if gateway is None:
            raise Misconfigured(DEAF if name == "slack" else f"There is no platform {name!r}: name slack.")
        hearing[name] = gateway
    return hearing


DEAF = (
    "Slack cannot be heard: set SLACK_APP_TOKEN (Socket Mode, no public address needed) or SLACK_SIGNING_SECRET "
    "(HTTP, events go to /slack/events)."
)


def _slack(settings: Settings, token: str, *, hearing: bool) -> Platform:
    try:
        from adapters.slack.outlet import SlackOutlet

        if hearing:
            from adapters.slack.gateway import SlackGateway
    except ImportError as error:
        raise Misconfigured(
            "SLACK_BOT_TOKEN is set but Slack is not installed: pip install 'threadbot[slack]'."
        ) from error

    outlet = SlackOutlet(bot_token=token, api_url=settings.slack_api_url)
    if settings.slack_mode is None or not hearing:
        return Platform(outlet, None, outlet.check)
    app_token, signing = settings.slack_app_token, settings.slack_signing_secret
    gateway = SlackGateway(
        bot_token=token,
        app_token=app_token.get_secret_value() if app_token else None,
        signing_secret=signing.get_secret_value() if signing else None,
        api_url=settings.slack_api_url,
    )
    return Platform(outlet, gateway, gateway.check, gateway.routes)
