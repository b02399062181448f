"""Only this machine may be dialled: whatever else connects, sends or resolves fails loudly.

It stands on audit events (https://docs.python.org/3/library/audit_events.html), so it sees every library and every
thread. `tests/guard/sitecustomize.py` installs it in the Python processes that tests start.
"""

from __future__ import annotations

import sys
from ipaddress import ip_address

DIALS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
RESOLVES = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
LOCAL_NAMES = frozenset({"", "localhost", "localhost.localdomain", "ip6-localhost"})


class NetworkForbidden(RuntimeError):
    """Not an OSError: nothing may take it for a server that happens to be down."""


def is_local(host: object) -> bool:
    if host is None:
        return True
    text = host.decode() if isinstance(host, bytes | bytearray) else str(host)
    if text.lower().rstrip(".") in LOCAL_NAMES:
        return True
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _guard(event: str, args: tuple[object, ...]) -> None:
    if event in DIALS:
        address = args[1]
        if isinstance(address, tuple) and address and not is_local(address[0]):
            raise NetworkForbidden(f"a test dialled {address[0]}: only this machine may be dialled")
    elif event in RESOLVES and not is_local(args[0]):
        raise NetworkForbidden(
            f"a test asked for the address of {args[0]!r}: only this machine may be dialled"
        )


def install() -> None:
    """For the life of the process: an audit hook cannot be taken out."""
    sys.addaudithook(_guard)
