"""No test leaves this machine, whatever library or process it uses."""

from __future__ import annotations

import socket
import subprocess
import sys

import httpx2
import pytest

from tests.network_guard import NetworkForbidden


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("10.0.0.1", 6379), ("::ffff:192.0.2.1", 80)])
def test_dialling_another_machine_fails(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as probe, pytest.raises(NetworkForbidden):
        probe.connect(address)


def test_asking_for_the_address_of_another_machine_fails() -> None:
    with pytest.raises(NetworkForbidden):
        socket.getaddrinfo("slack.com", 443)


async def test_an_http_client_does_not_get_out() -> None:
    async with httpx2.AsyncClient() as client:
        with pytest.raises(NetworkForbidden):
            await client.get("https://api.openai.com/v1/models")


def test_a_python_process_started_by_a_test_does_not_get_out() -> None:
    code = "import socket; socket.getaddrinfo('slack.com', 443)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "NetworkForbidden" in ended.stderr


def test_this_machine_may_be_dialled() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
    assert socket.getaddrinfo("localhost", 80)
