import asyncio
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from app.queue.roundtrips import COMMANDS, RoundTrips


class Gone:
    """A server that answers nobody; `trips` has how many commands each attempt carried."""

    def __init__(self) -> None:
        self.trips: list[int] = []
        self._commands = 0

    def pipeline(self, transaction: bool) -> "Gone":
        self._commands = 0
        return self

    async def __aenter__(self) -> "Gone":
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    def execute_command(self, *command: object) -> None:
        self._commands += 1

    async def execute(self, raise_on_error: bool) -> list[Any]:
        self.trips.append(self._commands)
        raise ConnectionError("refused")


async def test_of_a_server_that_is_gone_all_who_wait_hear_after_one_more_try() -> None:
    server = Gone()
    trips = RoundTrips(cast(Redis, server))
    answers = [trips.ask("GET", str(number)) for number in range(50 * COMMANDS)]
    heard = await asyncio.gather(*answers, return_exceptions=True)
    assert all(isinstance(one, ConnectionError) for one in heard)
    assert server.trips == [COMMANDS, 49 * COMMANDS]
