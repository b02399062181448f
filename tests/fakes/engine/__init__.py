"""A scripted Assistants v2 server for faults and for benches."""

from tests.fakes.engine.answers import envelope
from tests.fakes.engine.script import (
    Call,
    CloseMessage,
    Cut,
    End,
    Fault,
    Image,
    Mute,
    Pause,
    Raw,
    Say,
    Script,
    Tool,
    Wait,
    said,
)
from tests.fakes.engine.server import ScriptedEngine

__all__ = [
    "Call",
    "CloseMessage",
    "Cut",
    "End",
    "Fault",
    "Image",
    "Mute",
    "Pause",
    "Raw",
    "Say",
    "Script",
    "ScriptedEngine",
    "Tool",
    "Wait",
    "envelope",
    "said",
]
