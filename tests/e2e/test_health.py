"""Health tells an operator whether the bot hears."""

from __future__ import annotations

import httpx2
import pytest

from tests.e2e.house import House

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_health_tells_whether_slack_is_heard(empty_house: House) -> None:
    house = empty_house
    gateway = await house.gateway()
    address = (await gateway.logged("http.listening"))["address"]
    async with httpx2.AsyncClient(base_url=f"http://{address}") as client:

        async def health() -> tuple[int, object]:
            answer = await client.get("/healthz")
            return answer.status_code, answer.json()

        assert await health() == (200, {"slack": True})
        house.slack.refuse_sockets = True
        house.slack.drop_sockets()
        await gateway.logged("slack.socket_refused")
        assert await health() == (503, {"slack": False})
