""" "host:port" as people write it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from mesh.errors import ConfigError
from mesh.net.endpoint import RESOLVE_AGAIN_MAX, parse_endpoint, resolve, resolve_seeds
from tests.net.names import Names


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("robot-7.local:7946", ("robot-7.local", 7946)),
        ("[::1]:65535", ("::1", 65535)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
    ],
)
def test_what_people_write(text: str, address: tuple[str, int]) -> None:
    assert parse_endpoint(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "host", "host:", ":7946", "host:65536", "host:-1", "host:+1", "host:1_0", "host:\u0661", "::1:7946", "[]:1", "1:2:3"],
)
def test_what_cannot_be_one_is_named(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_endpoint(text)
    assert text in str(caught.value) or "names no host" in str(caught.value)


async def test_numeric_addresses_need_no_name_server() -> None:
    assert await resolve("127.0.0.1:7") == [("127.0.0.1", 7)]
    assert await resolve("[::1]:7") == [("::1", 7)]


async def test_a_name_that_no_host_can_have_is_a_mistake_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="no host can have that name"):
        await resolve("\u2603" * 80 + ":1")


async def test_seeds_are_resolved_again_and_new_addresses_are_found(autojump_clock: trio.testing.MockClock) -> None:
    names, found = Names(), list[tuple[str, int]]()
    trio.socket.set_custom_hostname_resolver(names)
    needed = True
    async with trio.open_nursery() as nursery:

        async def run(seeds: Sequence[str]) -> None:
            await resolve_seeds(seeds, found.append, needed=lambda: needed)

        nursery.start_soon(run, ["seed.example:5", "192.0.2.9:6"])
        await trio.sleep(0.5)
        assert found == [("192.0.2.9", 6)]  # the other name has no address yet, and that stops nobody
        names.answers["seed.example"] = ["192.0.2.1", "192.0.2.2"]
        await trio.sleep(1)
        assert found[1:] == [("192.0.2.1", 5), ("192.0.2.2", 5)]
        names.answers["seed.example"] = ["192.0.2.2", "192.0.2.3"]  # the host has moved
        await trio.sleep(3 * RESOLVE_AGAIN_MAX)
        assert found[3:] == [("192.0.2.3", 5)]
        needed, asked = False, names.asked
        await trio.sleep(10 * RESOLVE_AGAIN_MAX)
        assert names.asked == asked
        nursery.cancel_scope.cancel()


async def test_a_wrong_seed_is_refused_before_any_is_resolved() -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        await resolve_seeds(["127.0.0.1:1", "nonsense"], lambda address: pytest.fail("must not get that far"))


async def test_without_seeds_there_is_nothing_to_do() -> None:
    await resolve_seeds([], lambda address: pytest.fail("there is none"))
