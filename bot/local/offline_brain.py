"""The brain without a model: deterministic, honest about what it is, and enough to try the whole protocol."""

import json
import re
from collections.abc import AsyncGenerator

from bot.local.arithmetic import calculate
from bot.local.brain import Delta, Finished, Prompt, TextDelta, ToolCallDelta, Turn, Usage
from bot.local.wire import new_id

OFFLINE_MODEL = "offline-demo"
LABEL = "Offline demo brain:"
_HOW = (
    "There is no model behind me. Set THREADBOT_MODEL_URL to any OpenAI-compatible server for real answers."
)
_SPEAKER = re.compile(r"^[^\s:][^\n:]{0,40}: ")  # as chat bots say whose line it is
_CALL = re.compile(r"\bcall\s+([\w-]+)\s*(?=\{)", re.IGNORECASE)
_ASKS_BACK = re.compile(
    r"\b(earlier|previous(ly)?|before|so far|first|last|remember|did i (say|ask))\b", re.IGNORECASE
)
_ASKS_WHO = re.compile(r"\b(who|what) are you\b|^\W*(hi|hello|help|hey)\b", re.IGNORECASE)


class OfflineBrain:
    """Usage is counted in words, having no tokens."""

    async def think(self, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        spoken = 0
        calls = _calls(prompt)
        for index, (name, arguments) in enumerate(calls):
            yield ToolCallDelta(index, arguments, id=new_id("call_"), name=name)
        if not calls:
            for word in re.findall(r"\S+\s*", _answer(prompt)):
                spoken += 1
                if prompt.max_completion_tokens is not None and spoken > prompt.max_completion_tokens:
                    yield Finished("length", _usage(prompt, spoken - 1))
                    return
                yield TextDelta(word)
        yield Finished("stop", _usage(prompt, spoken))

    async def models(self) -> list[str]:
        return [OFFLINE_MODEL]

    async def close(self) -> None:
        pass


def _usage(prompt: Prompt, spoken: int) -> Usage:
    read = prompt.instructions.split(), *(turn.text.split() for turn in prompt.turns)
    return Usage(sum(len(words) for words in read), spoken)


def _calls(prompt: Prompt) -> list[tuple[str, str]]:
    """`call get_weather {"city": "Paris"}` for every function that is really offered."""
    question = prompt.turns[-1] if prompt.turns else None
    if question is None or question.role != "user" or prompt.tool_choice == "none":
        return []
    offered = {function["function"]["name"] for function in prompt.functions}
    found: list[tuple[str, str]] = []
    for match in _CALL.finditer(question.text):
        try:
            arguments, _ = json.JSONDecoder().raw_decode(question.text, match.end())
        except (ValueError, RecursionError):
            continue
        if match[1] in offered:
            found.append((match[1], json.dumps(arguments)))
    return found


def _answer(prompt: Prompt) -> str:
    last = prompt.turns[-1] if prompt.turns else None
    if last is not None and last.calls:
        results = "; ".join(f"{call.name} returned {_quote(call.output or '')}" for call in last.calls)
        return f"{LABEL} {results}."
    questions = [turn for turn in prompt.turns if turn.role == "user"]
    if not questions:
        return f"{LABEL} this thread has no question yet. {_HOW}"
    *earlier, question = questions
    return f"{LABEL} {_reply(question.text, [turn.text for turn in earlier])}{_about_files(questions)}"


def _reply(question: str, earlier: list[str]) -> str:
    sum_ = _SPEAKER.sub("", question)
    if (result := calculate(sum_)) is not None:
        return f"{sum_.strip()} is {result}."
    if _ASKS_WHO.search(question):
        return f"I read you: {_quote(question)}. {_HOW}"
    if _ASKS_BACK.search(question) and earlier:
        count = f"{len(earlier)} message{'s' if len(earlier) > 1 else ''}"
        return (
            f"before this you wrote {count} in this thread. The first was {_quote(earlier[0])},"
            f" the last {_quote(earlier[-1])}."
        )
    place = (
        f" This is message {len(earlier) + 1} of this thread; before it came {_quote(earlier[-1])}."
        if earlier
        else ""
    )
    return f"you wrote {_quote(question)}.{place} {_HOW}"


def _about_files(questions: list[Turn]) -> str:
    names = list(dict.fromkeys(name for turn in questions for name in turn.files))
    return f" Attached so far: {', '.join(names)}." if names else ""


def _quote(text: str) -> str:
    line = " ".join(text.split())
    return f"\u201c{line[:199]}\u2026\u201d" if len(line) > 200 else f"\u201c{line}\u201d"
