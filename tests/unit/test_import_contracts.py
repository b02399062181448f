"""The contracts in pyproject name every module there is, and platforms are imported only when they are used."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"][
    "importlinter"
]["contracts"]
INNER_RING = {"bot.domain", "bot.ports", "bot.errors", "bot.text", "bot.settings"}
MODULES = {
    f"bot.{path.stem}"
    for path in (ROOT / "bot").iterdir()
    if path.stem not in {"__init__", "__main__", "__pycache__"}
}


def forbidden(source: str) -> set[str]:
    return {
        module
        for contract in CONTRACTS
        if contract["type"] == "forbidden" and source in contract["source_modules"]
        for module in contract["forbidden_modules"]
    }


@pytest.mark.parametrize(
    ("source", "may"),
    [
        ("adapters", INNER_RING | {"bot.clock"}),
        ("bot.engines", INNER_RING | {"bot.engines"}),
        ("bot.local", {"bot.local"}),
    ],
)
def test_what_is_not_allowed_is_forbidden(source: str, may: set[str]) -> None:
    assert forbidden(source) & MODULES == MODULES - may


def test_every_module_of_the_core_has_its_layer() -> None:
    (layers,) = (contract["layers"] for contract in CONTRACTS if contract["type"] == "layers")
    named = {module.strip() for layer in layers for module in layer.split("|")}
    assert named | {"bot.engines", "bot.local", "bot.blocks", "bot.cuts"} == MODULES


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("bot.cli", ["slack_bolt", "slack_sdk", "discord", "bot.local", "openai"]),
        ("adapters.slack.outlet", ["slack_bolt", "openai", "docket", "redis"]),
        ("adapters.console", ["slack_sdk", "openai", "docket", "redis"]),
        ("bot.local.server", ["bot.settings", "redis", "docket", "slack_sdk"]),
    ],
)
def test_importing_one_part_does_not_bring_in_another(module: str, absent: list[str]) -> None:
    code = f"import sys, {module}; print([name for name in {absent!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
