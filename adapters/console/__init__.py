"""The terminal as a platform: the first adapter anyone runs. Gateway and outlet live in one process."""

from adapters.console.gateway import ConsoleGateway
from adapters.console.outlet import ConsoleOutlet

__all__ = ["ConsoleGateway", "ConsoleOutlet"]
