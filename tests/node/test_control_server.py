"""The control socket of a real node: what a client may do wrong costs nobody but itself."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import mesh
from mesh.control import server, verbs
from mesh.control.protocol import LINE_BYTES_MAX, SOCKET_NAME
from mesh.control.server import CLIENTS_MAX
from tests.node.agents import PATIENCE_S, Mesh, until


@asynccontextmanager
async def open_served(data_dir: Path) -> AsyncIterator[mesh.Node]:
    async with mesh.open_node(Mesh().config("a", data_dir=data_dir)) as node:
        yield node


async def connect(data_dir: Path) -> trio.SocketStream:
    return await trio.open_unix_socket(str(data_dir / SOCKET_NAME))


async def read_line(stream: trio.SocketStream) -> Any:
    line = b""
    with trio.fail_after(PATIENCE_S):
        while not line.endswith(b"\n"):
            data = await stream.receive_some(1)
            if not data:
                return None
            line += data
    return json.loads(line)


async def ask(stream: trio.SocketStream, request: object) -> Any:
    await stream.send_all(json.dumps(request).encode() + b"\n")
    return await read_line(stream)


async def test_only_the_owner_may_connect(tmp_path: Path) -> None:
    async with open_served(tmp_path):
        assert stat.S_IMODE((tmp_path / SOCKET_NAME).stat().st_mode) == 0o600
    assert not (tmp_path / SOCKET_NAME).exists()


async def test_a_node_may_have_no_control_socket(tmp_path: Path) -> None:
    async with mesh.open_node(Mesh().config("a", data_dir=tmp_path, control=False)):
        assert not (tmp_path / SOCKET_NAME).exists()


WRONG = [
    {},
    {"do": None},
    {"do": "nonsense"},
    {"do": "__class__"},
    {"do": "get"},
    {"do": "get", "path": 1},
    {"do": "get", "path": "a//b"},
    {"do": "put", "path": "a", "type": "nonsense", "value": 1},
    {"do": "put", "path": "a", "value": {"$bytes": 1}},
    {"do": "put", "path": "a", "type": "register", "remove": True, "value": 1},
    {"do": "watch", "prefix": "a//b"},
    {"do": "get", "path": "a", "type": "nonsense"},
    {"do": "get", "path": "a", "type": ["set"]},
    {"do": "watch", "prefix": "a", "type": {}},
    {"do": "snapshot", "prefix": "a", "type": "map"},
    {"do": "history", "path": "a", "type": 1},
    {"do": "put", "path": "a", "value": 1, "type": ["set"]},
    {"do": "put", "path": "a", "value": 1, "copies": "2"},
    {"do": "put", "path": "a", "value": 1, "copies": -1},
    {"do": "put", "path": "a", "value": 1, "copies": 1, "timeout": "soon"},
    {"do": "shelves", "replica": "xyz"},
    {"do": "tell", "statement": "?"},
]


async def test_a_wrong_request_is_told_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with open_served(tmp_path), await connect(tmp_path) as stream:
        for request in WRONG:
            answer = await ask(stream, request)
            assert answer["exit"] == 2, request
            assert answer["message"]
        for garbage in (b"\xff\xfe\n", b"[1, 2]\n", b"{\n", b"\n"):
            await stream.send_all(garbage)
            assert (await read_line(stream))["exit"] == 2, garbage
        assert (await ask(stream, {"do": "status"}))["ok"]["name"] == "a"


async def test_statements_are_checked(tmp_path: Path) -> None:
    async with open_served(tmp_path) as node, await connect(tmp_path) as stream:
        raws = [item async for item in _items(stream, {"do": "statements"})]
        assert len(raws) == len(node.statements()) == 2
        assert (await ask(stream, {"do": "tell", "statement": raws[0]}))["ok"] is False, "known already"
        assert (await ask(stream, {"do": "tell", "statement": "AAAA"}))["error"] == "Malformed"


async def _items(stream: trio.SocketStream, request: object) -> AsyncIterator[Any]:
    answer = await ask(stream, request)
    while "item" in answer:
        yield answer["item"]
        answer = await read_line(stream)


async def test_a_line_without_an_end_ends_the_connection(tmp_path: Path) -> None:
    async with open_served(tmp_path), await connect(tmp_path) as stream:
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(bytes(LINE_BYTES_MAX + (1 << 20)))
        async with await connect(tmp_path) as another:
            assert "ok" in await ask(another, {"do": "status"})


async def test_a_client_that_hangs_up_in_a_stream_is_let_go(tmp_path: Path) -> None:
    async with open_served(tmp_path) as node:
        stream = await connect(tmp_path)
        assert await ask(stream, {"do": "watch", "prefix": ""}) == {"item": {"event": "synced"}}
        assert len(node._watchers) == 1
        await stream.aclose()
        await until(lambda: not node._watchers)


async def test_a_client_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    async with open_served(tmp_path) as node, await connect(tmp_path) as deaf, await connect(tmp_path) as stream:
        await deaf.send_all(b'{"do": "watch", "prefix": ""}\n')
        await until(lambda: bool(node._watchers))
        for number in range(40):
            node.register(f"x/{number % 4}").set("y" * 50_000)
            await node.flush()
        assert (await ask(stream, {"do": "get", "path": "x/3"}))["ok"][0]["value"] == "y" * 50_000


async def test_more_clients_than_there_is_room_for_wait(tmp_path: Path) -> None:
    async with open_served(tmp_path):
        streams = [await connect(tmp_path) for _ in range(CLIENTS_MAX)]
        for stream in streams:
            assert "ok" in await ask(stream, {"do": "status"})
        late = await connect(tmp_path)
        with trio.move_on_after(0.05):
            await ask(late, {"do": "status"})
            pytest.fail("there was room")
        await streams[0].aclose()
        assert "ok" in await read_line(late)
        for stream in (*streams, late):
            await stream.aclose()


async def test_who_waits_for_room_in_vain_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ROOM_S", 0.2)
    async with open_served(tmp_path):
        streams = [await connect(tmp_path) for _ in range(CLIENTS_MAX)]
        for stream in streams:
            assert "ok" in await ask(stream, {"do": "status"})
        for _ in range(2):
            async with await connect(tmp_path) as late:
                answer = await ask(late, {"do": "status"})
                assert (answer["error"], answer["exit"]) == ("Busy", 1)
                assert "mesh watch" in answer["message"]
        for stream in streams:
            await stream.aclose()
        async with await connect(tmp_path) as late:
            assert "ok" in await ask(late, {"do": "status"})


async def test_a_mistake_of_ours_costs_one_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(node: mesh.Node, request: object) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setitem(verbs.ANSWERS, "status", fail)
    monkeypatch.setitem(verbs.ANSWERS, "put", fail)
    async with open_served(tmp_path), await connect(tmp_path) as stream:
        answer = await ask(stream, {"do": "status"})
        assert answer["exit"] == 1
        assert (await ask(stream, {"do": "put"}))["exit"] == 3, "it may have been written"
        assert "see its log" in answer["message"]
        assert "ZeroDivisionError: of ours" in caplog.text
        assert "ok" in await ask(stream, {"do": "members"})
