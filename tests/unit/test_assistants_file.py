"""threadbot.toml: who answers where, and what is said about a file with mistakes."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.assistants import INSTRUCTIONS, load, read
from bot.domain import RunLimits, ThreadKey
from bot.errors import Misconfigured
from bot.settings import known_variables

ROOT = Path(__file__).parents[2]


def thread(channel: str = "C1", platform: str = "slack") -> ThreadKey:
    return ThreadKey(platform, "T1", channel, "1.0")


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(Misconfigured) as caught:
        read(text)
    return caught.value.problems


def test_without_a_file_one_assistant_answers_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    board = load(model="some-model")
    policy = board.channel(thread())
    assert policy == board.channel(thread("D1"), private=True) == board.channel(thread(platform="discord"))
    assert (policy.follow, policy.knowledge) == ("thread", "auto")
    assistant = policy.assistant
    assert (assistant.key, assistant.name, assistant.model) == ("default", "Threadbot", "some-model")
    assert assistant.instructions == INSTRUCTIONS
    assert assistant.tools == ("code_interpreter", "file_search")
    assert assistant.limits == RunLimits(seconds=600, attempts=4)


def test_the_file_in_the_current_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("threadbot.toml").write_text('[assistants.default]\nname = "Ada"\n')
    assert load().assistant_for(thread()).name == "Ada"


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"THREADBOT_CONFIG names .*nowhere\.toml, which does not exist"):
        load(tmp_path / "nowhere.toml")
    with pytest.raises(Misconfigured, match="cannot be read"):
        load(tmp_path)


PLACES = """
[assistants.default]
model = "own"
[assistants.a]
[assistants.b]
[assistants.c]
[platforms.slack]
assistant = "a"
[channels.default]
follow = "mention"
knowledge = "ask"
[channels.dm]
assistant = "b"
follow = "thread"
[channels."slack:C7"]
assistant = "c"
knowledge = "off"
"""


@pytest.mark.parametrize(
    ("place", "private", "expected"),
    [
        (thread(platform="discord"), False, ("default", "mention", "ask")),
        (thread(), False, ("a", "mention", "ask")),
        (thread("D1"), True, ("b", "thread", "ask")),
        (thread("D1", "discord"), True, ("b", "thread", "ask")),
        (thread("C7"), False, ("c", "mention", "off")),
        (thread("C7"), True, ("c", "thread", "off")),
        (thread("C7", "discord"), False, ("default", "mention", "ask")),
    ],
)
def test_the_most_particular_place_wins_key_by_key(
    place: ThreadKey, private: bool, expected: tuple[str, str, str]
) -> None:
    policy = read(PLACES).channel(place, private=private)
    assert (policy.assistant.key, policy.follow, policy.knowledge) == expected


def test_a_model_of_its_own_wins_over_the_common_one() -> None:
    board = read(PLACES, model="common")
    assert board.assistants["default"].model == "own"
    assert board.assistants["a"].model == "common"


# --- versions ----------------------------------------------------------------------------------------------------


def version(text: str, model: str | None = None) -> str:
    return read(f"[assistants.default]\n{text}", model=model).assistants["default"].version


def test_what_the_engine_is_told_makes_the_version() -> None:
    versions = [
        version(text)
        for text in (
            "",
            'name = "x"',
            'instructions = "x"',
            'model = "x"',
            "tools = []",
            'tools = ["file_search"]',
        )
    ]
    assert len(set(versions)) == len(versions)


def test_what_the_engine_is_not_told_does_not() -> None:
    assert version('tools = ["file_search", "code_interpreter", "file_search"]') == version("")
    assert version("limits.seconds = 5") == version("")
    assert version('model = "x"') == version("", model="x")


def test_the_version_is_the_same_in_every_process() -> None:
    code = "from bot.assistants import read; print(read('').assistants['default'].version)"
    said = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    assert said.strip() == read("").assistants["default"].version


# --- mistakes ----------------------------------------------------------------------------------------------------


def test_every_mistake_is_told_with_its_line_and_key() -> None:
    text = """\
# a comment
[assistants.default]
nmae = "typo"
instructions = '''
[channels.default]
follow = "this is text, not a table"
'''
tools = [
  "file_search",
  "telepathy",
]
limits = { seconds = "long" }

[assistants.helper.limits]
attempts = 0
tries = 3

[channels.default]
assistant = "helpr"
follow = "always"

[channels."slack:C1"]
knowledge = true
[channels.general]

[platforms.slak]
assistant = "helper"

[assistant.default]
"""
    assert problems(text) == (
        "threadbot.toml line 3, assistants.default.nmae: is not a key here; did you mean name?",
        "threadbot.toml line 8, assistants.default.tools.1: must be 'file_search' or 'code_interpreter'.",
        "threadbot.toml line 12, assistants.default.limits.seconds: must be a valid number.",
        "threadbot.toml line 15, assistants.helper.limits.attempts: must be greater than or equal to 1.",
        "threadbot.toml line 16, assistants.helper.limits.tries: is not a key here; there are seconds, attempts.",
        "threadbot.toml line 19, channels.default.assistant: names 'helpr', but there is no [assistants.helpr]; did you mean helper?",
        "threadbot.toml line 20, channels.default.follow: must be 'thread' or 'mention'.",
        "threadbot.toml line 23, channels.\"slack:C1\".knowledge: must be 'auto', 'ask' or 'off'.",
        'threadbot.toml line 24, channels.general: is neither default, nor dm, nor a channel such as "slack:C0123".',
        "threadbot.toml line 26, platforms.slak: is not a platform; did you mean slack?",
        "threadbot.toml line 29, assistant: is not a key here; did you mean assistants?",
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[assistants", "threadbot.toml line 1: Expected ']' at the end of a table declaration."),
        ('\nname = "a', "threadbot.toml line 2: Unterminated string."),
        ("a = 1\na = 2", "threadbot.toml line 2: Cannot overwrite a value."),
        (
            "name = 'a' b\n",
            "threadbot.toml line 1, column 12: Expected newline or end of document after a statement.",
        ),
        ("assistants = 3", "threadbot.toml line 1, assistants: must be a valid dictionary."),
        ("assistants.default = 3", "threadbot.toml line 1, assistants.default: must be a valid dictionary"),
        ("[[channels]]\n", "threadbot.toml line 1, channels: must be a valid dictionary."),
        (
            "\nchannels.default.assistant = 3\n",
            "threadbot.toml line 2, channels.default.assistant: must be a valid str",
        ),
        (
            '[assistants.x]\nname = ""\n',
            "threadbot.toml line 2, assistants.x.name: must have at least 1 character.",
        ),
    ],
)
def test_one_mistake_is_one_sentence(text: str, problem: str) -> None:
    (told,) = problems(text)
    assert told.startswith(problem)


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_text_is_a_switchboard_or_a_clear_refusal(text: str) -> None:
    told: tuple[str, ...] = ()
    try:
        read(text)
    except Misconfigured as error:
        told = error.problems
    assert all(re.match(r"threadbot\.toml line \d+", problem) for problem in told)


# --- the examples we ship ----------------------------------------------------------------------------------------


def test_the_example_file_loads_and_shows_every_key() -> None:
    text = (ROOT / "threadbot.example.toml").read_text()
    board = read(text)
    assert board.channel(thread("C0123456789")).assistant.key == "proofreader"
    shown = tomllib.loads(text)
    assert set(shown) == {"assistants", "channels", "platforms"}
    assert set(shown["assistants"]["default"]) == {"name", "instructions", "model", "tools", "limits"}
    assert set(shown["assistants"]["default"]["limits"]) == {"seconds", "attempts"}
    assert set(shown["channels"]["default"]) == {"assistant", "follow", "knowledge"}
    assert set(shown["platforms"]["slack"]) == {"assistant"}


def test_the_example_environment_names_every_variable_and_no_other() -> None:
    named = re.findall(r"^# ([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(known_variables())
