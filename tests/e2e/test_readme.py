"""Every command the README shows is run; a new one must say here how."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest

from bot.settings import known_variables
from tests.contract.local_kit import serving
from tests.e2e.house import House
from tests.e2e.programs import environment, until
from tests.fakes.chat_model import ChatModel, End, Say

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


COMMANDS = [
    line.split("  #")[0].strip() for block in blocks("sh") for line in block.splitlines() if line.strip()
]


async def run(command: str, env: dict[str, str], said: str = "") -> tuple[int, str]:
    """Run a line of shell in the project's folder, as a reader would."""
    process = await asyncio.create_subprocess_shell(
        command,
        cwd=ROOT,
        env=environment({"PYTHON": sys.executable, **env}),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate(said.encode())
    return process.returncode or 0, out.decode()


async def start_and_stop(command: str, env: dict[str, str], ready: str, log: Path) -> None:
    """A command that stays: started, awaited, asked to end."""
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command),
            cwd=ROOT,
            env=environment(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    try:
        await until(lambda: ready in log.read_text(), f"{command} logs {ready}")
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


READY = {"run": "worker.started", "gateway slack": "slack.socket_open", "worker": "worker.started"}


@pytest.mark.skipif(
    not (ROOT / ".venv/bin/threadbot").exists(), reason="the README's commands use the .venv that make makes"
)
@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_of_the_readme_does_what_it_says(command: str, home: House, tmp_path: Path) -> None:
    env = {**home.env, "THREADBOT_DATA": str(home.folder / "readme")}
    match command.split():
        case ["make", "test"]:
            code, out = await run("make --dry-run test", env)
            assert (code, "pytest" in out) == (0, True)
        case ["make", "demo"]:
            code, out = await run(command, env, said="hello\n")
            assert code == 0, out
            assert "Offline demo brain" in out
        case [url, model, "make", "demo"] if url.startswith("THREADBOT_MODEL_URL="):
            server = ChatModel()
            server.will(Say("The answer of a model."), End())
            async with server.running():
                code, out = await run(
                    f"{model} make demo", env | {"THREADBOT_MODEL_URL": server.url}, said="hello\n"
                )
            assert code == 0, out
            assert "The answer of a model." in out
        case [".venv/bin/threadbot", "manifest", "slack"]:
            code, out = await run(command, env)
            assert code == 0
            assert json.loads(out)["display_information"]["name"] == "Threadbot"
        case [".venv/bin/threadbot", *words]:
            await start_and_stop(command, env, READY[" ".join(words)], tmp_path / "log")
        case _:
            pytest.fail(f"the README shows {command!r}: say here how to test it")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    (code,) = blocks("python")
    async with serving(tmp_path) as api:
        code = code.replace("http://127.0.0.1:8787/v1", api.url)
        assert api.url in code
        await asyncio.to_thread(exec, compile(code, "README.md", "exec"), {})


def test_the_settings_table_names_every_variable_of_this_version() -> None:
    later = {name for name in known_variables() if name.startswith("DISCORD_")}
    shown = set(re.findall(r"`([A-Z_]+)`", README))
    assert set(known_variables()) - later <= shown


def test_the_readmes_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
