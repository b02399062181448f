"""What an operator types, and what is said about it: one clear sentence, the right exit code, no traceback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.house import House
from tests.e2e.programs import Finished, command
from tests.redis_servers import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUICKLY = 15.0  # seconds, on a busy machine


@pytest_asyncio.fixture(loop_scope="module")
async def house(empty_house: House) -> AsyncIterator[House]:
    scopes = set(empty_house.slack.scopes)
    empty_house.reset()
    yield empty_house
    empty_house.slack.scopes = scopes


async def attempt(house: House, *words: str, without: str = "", **env: str) -> Finished:
    """Run a command that cannot work, in an environment where all but `env` is well."""
    settings = {name: value for name, value in house.env.items() if name not in without.split()}
    return await command(*words, folder=house.folder, env=settings | env)


def data(folder: Path) -> dict[str, str]:
    return {"THREADBOT_DATA": str(folder)}


def assert_it_says(done: Finished, code: int, *expected: str) -> None:
    told = [line for line in done.err.splitlines() if line.startswith("threadbot: ")]
    assert done.code == code, done
    assert "Traceback" not in done.err
    assert len(told) == 1, done.err
    for words in expected:
        assert words in told[0]
    assert told[0].endswith(".")
    assert done.seconds < QUICKLY


# --- demo and manifest -------------------------------------------------------------------------------------------


async def test_a_line_piped_into_the_demo_is_answered(short_path: Path) -> None:
    done = await command("demo", folder=short_path, heard="hello\n", timeout=60, env=data(short_path))
    assert done.code == 0
    assert "hello" in done.out
    assert "Offline demo brain" in done.out
    assert done.err == ""


async def test_the_demo_keeps_one_conversation_for_all_its_lines(short_path: Path) -> None:
    done = await command(
        "demo", folder=short_path, heard="my number is 41\nwhat did I say first?\n", timeout=60,
        env=data(short_path),
    )  # fmt: skip
    assert done.code == 0
    assert "The first was “my number is 41”" in done.out


async def test_the_manifest_is_json(short_path: Path) -> None:
    done = await command("manifest", "slack", folder=short_path, env={})
    assert done.code == 0
    assert json.loads(done.out)["settings"]["socket_mode_enabled"] is True
    assert done.err == ""


async def test_a_word_that_is_no_command_is_told_so(short_path: Path) -> None:
    done = await command("runn", folder=short_path, env={})
    assert done.code == 2
    assert "runn" in done.err
    assert "Traceback" not in done.err


async def test_a_log_level_that_does_not_exist_is_told_so(house: House) -> None:
    done = await attempt(house, "worker", "--log-level", "loud")
    assert done.code == 2
    assert "loud" in done.err
    assert "Traceback" not in done.err


# --- settings ----------------------------------------------------------------------------------------------------


async def test_nothing_configured(short_path: Path) -> None:
    assert_it_says(await command("run", folder=short_path, env={}), 2, "SLACK_BOT_TOKEN", "threadbot demo")


async def test_a_broken_toml_file(house: House) -> None:
    broken = house.folder / "broken.toml"
    broken.write_text('[assistants.default\nname = "x"\n')
    assert_it_says(await attempt(house, "run", THREADBOT_CONFIG=str(broken)), 2, "broken.toml", "line 1")


async def test_a_toml_file_that_is_not_there(house: House) -> None:
    missing = str(house.folder / "missing.toml")
    assert_it_says(await attempt(house, "run", THREADBOT_CONFIG=missing), 2, "missing.toml")


async def test_a_key_without_an_engine(house: House) -> None:
    done = await attempt(
        house, "worker", without="THREADBOT_ENGINE OPENAI_BASE_URL", OPENAI_API_KEY="sk-secret-key"
    )
    assert_it_says(done, 2, "OPENAI_API_KEY", "THREADBOT_ENGINE=assistants")
    assert "sk-secret-key" not in done.err + done.out


async def test_a_redis_url_that_is_none(house: House) -> None:
    assert_it_says(await attempt(house, "worker", REDIS_URL="localhost"), 2, "REDIS_URL")


async def test_no_way_to_hear_slack(house: House) -> None:
    assert_it_says(await attempt(house, "gateway", without="SLACK_APP_TOKEN"), 2, "SLACK_APP_TOKEN")


# --- what refuses or is away -------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["run", "gateway", "worker"])
async def test_a_wrong_token(house: House, what: str) -> None:
    done = await attempt(house, what, SLACK_BOT_TOKEN="xoxb-somebody-elses")
    assert_it_says(done, 2, "SLACK_BOT_TOKEN")
    assert "somebody" not in done.err + done.out


async def test_a_wrong_app_token(house: House) -> None:
    assert_it_says(
        await attempt(house, "gateway", SLACK_APP_TOKEN="xapp-somebody-elses"), 2, "SLACK_APP_TOKEN"
    )


async def test_a_missing_scope(house: House) -> None:
    house.slack.scopes -= {"app_mentions:read"}
    assert_it_says(await attempt(house, "run"), 2, "app_mentions:read")


async def test_an_unreachable_slack(house: House) -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    assert_it_says(await attempt(house, "run", SLACK_API_URL=url), 1, "Slack")


async def test_an_unreachable_redis(house: House) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    assert_it_says(await attempt(house, "run", REDIS_URL=url), 1, "Redis")


async def test_an_unreachable_engine(house: House) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    assert_it_says(await attempt(house, "run", OPENAI_BASE_URL=url), 1, url)


async def test_a_model_the_engine_does_not_have(house: House) -> None:
    assert_it_says(await attempt(house, "worker", THREADBOT_MODEL="gpt-0"), 2, "THREADBOT_MODEL", "gpt-0")


async def test_an_address_that_is_taken(house: House) -> None:
    taken = house.slack.workspace.url.removeprefix("http://")
    done = await attempt(
        house, "gateway", without="SLACK_APP_TOKEN", SLACK_SIGNING_SECRET="secret", THREADBOT_HTTP=taken
    )
    assert_it_says(done, 2, "THREADBOT_HTTP", taken)
