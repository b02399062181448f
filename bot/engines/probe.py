"""Does this server do what the engine needs? Sentences for the operator when it does not."""

from __future__ import annotations

from openai import AsyncOpenAI

from bot.engines.errors import AssistantGone, not_assistants, translated
from bot.errors import Misconfigured, Rejected, ThreadGone

_SHOWN = 5  # model ids in a sentence


async def probe(client: AsyncOpenAI, where: str, model: str | None) -> None:
    """Raise Misconfigured or Retryable."""
    try:
        with translated():
            page = await client.beta.assistants.list(limit=1)
    except (ThreadGone, AssistantGone, Rejected) as exc:
        raise not_assistants(where) from exc
    if not isinstance(getattr(page, "data", None), list):
        raise not_assistants(where)
    if model is None:
        return
    try:
        with translated():
            offered = [found.id for found in (await client.models.list()).data or ()]
    except (ThreadGone, AssistantGone, Rejected, AttributeError):
        return  # no list of models: the first run will tell
    if offered and model not in offered:
        names = ", ".join(offered[:_SHOWN]) + (", …" if len(offered) > _SHOWN else "")
        raise Misconfigured(
            f"The engine at {where} offers no model {model!r} but {names}: set THREADBOT_MODEL."
        )
