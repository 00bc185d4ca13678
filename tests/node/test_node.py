"""A node as its user sees it: two or three real ones on loopback."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

import mesh
import mesh.events
from mesh.effects import Now
from mesh.net.udp import UdpSocket
from mesh.peer import Peer
from mesh.swim.roster import State
from tests.node.agents import PATIENCE_S, Mesh, alive, open_nodes, seed_of, until


async def test_a_write_on_one_is_a_value_on_the_other() -> None:
    async with open_nodes("a", "b") as (a, b):
        a.register("robots/a/pose").set([1.0, 2.0])
        assert a.register("robots/a/pose").value == [1.0, 2.0], "a plain call is done when it returns"
        await until(lambda: b.register("robots/a/pose").value == [1.0, 2.0])


async def test_every_type_merges() -> None:
    async with open_nodes("a", "b") as (a, b):
        for number, node in enumerate((a, b), 1):
            node.counter("visits").add(number)
            node.maximum("highest").update(number)
            node.minimum("lowest").update(number)
            node.set("seen").add(("cell", number))
            node.list("plan").append(number)
            node.log("events").append(number)
            node.map("robots")[node.name] = {"battery": number}
            node.multi_value("opinion").set(number)
        a.flag("armed").enable()
        a.bounded_counter("tickets").add(5)
        for node in (a, b):
            await until(lambda node=node: node.state_digest() == a.state_digest() and node.counter("visits").value == 3)  # type: ignore[misc]
            assert (node.maximum("highest").value, node.minimum("lowest").value) == (2, 1)
            assert set(node.set("seen")) == {("cell", 1), ("cell", 2)}
            assert sorted(node.list("plan")) == [1, 2]
            assert sorted(node.log("events")) == [1, 2]
            assert node.map("robots").value == {"a": {"battery": 1}, "b": {"battery": 2}}
            assert sorted(node.multi_value("opinion")) == [1, 2]
            assert node.flag("armed")
            assert node.bounded_counter("tickets").value == 5
        assert a.list("plan").value == b.list("plan").value
        assert a.log("events").value == b.log("events").value


async def test_members_are_all_and_know_each_other() -> None:
    async with open_nodes("a", "b", "c") as nodes:
        for node in nodes:
            members = node.members()
            assert [member.replica for member in members] == sorted(member.replica for member in members)
            assert {member.address for member in members} == {other.address for other in nodes}
            (me,) = [member for member in members if member.replica == node.replica_id]
            assert (me.name, me.state) == (node.name, State.ALIVE)


async def test_a_watcher_hears_of_what_others_write() -> None:
    async with open_nodes("a", "b") as (a, b):
        a.register("x/1").set("before")
        a.register("elsewhere").set(0)
        await until(lambda: b.register("elsewhere").value == 0)
        heard: list[object] = []
        async with b.watch("x/") as changes:
            with trio.fail_after(PATIENCE_S):
                async for change in changes:
                    heard.append((change.path, change.type, change.value) if isinstance(change, mesh.Changed) else change)
                    if change == mesh.Synced():
                        a.set("x/2").add("after")
                        a.register("elsewhere").set(1)
                    if len(heard) == 3:
                        break
        assert heard == [("x/1", "register", "before"), mesh.Synced(), ("x/2", "set", {"after"})]


async def test_a_watcher_is_told_its_own_node_s_writes_too() -> None:
    async with open_nodes("a") as (a,), a.watch() as changes:
        assert await anext(changes) == mesh.Synced()
        a.register("x").set(1)
        change = await anext(changes)
        assert isinstance(change, mesh.Changed)
        assert change.dot is not None
        a.register("x").clear()
        assert await anext(changes) == mesh.Changed("x", "register", None, None)


async def test_what_was_written_before_the_watch_is_told_once() -> None:
    """A write just before was once told twice: in the snapshot, and again as a change."""
    async with open_nodes("a") as (a,):
        a.register("x").set(1)
        async with a.watch() as changes:
            a.register("y").set(2)
            heard = [await anext(changes) for _ in range(3)]
            a.register("z").set(3)
            heard.append(await anext(changes))
        paths = [change.path if isinstance(change, mesh.Changed) else change for change in heard]
        assert paths == ["x", "y", mesh.Synced(), "z"]


async def test_a_watcher_that_sleeps_is_told_how_much_it_missed() -> None:
    async with open_nodes("a", "b") as (a, b):
        async with b.watch("many/", limit=16) as changes:
            assert await anext(changes) == mesh.Synced()
            for number in range(200):
                a.register(f"many/{number}").set(number)
                await trio.lowlevel.checkpoint()
            await until(lambda: b.state_digest() == a.state_digest())
            lagged = await anext(changes)
            assert isinstance(lagged, mesh.Lagged)
            told: dict[str, object] = {}
            with trio.fail_after(PATIENCE_S):
                async for change in changes:
                    if isinstance(change, mesh.Synced):
                        break
                    assert isinstance(change, mesh.Changed)
                    told[change.path] = change.value
        assert told == {f"many/{number}": number for number in range(200)}
        assert lagged.n == 200


async def test_presence_ends_with_its_author_and_watchers_hear_it() -> None:
    one_mesh = Mesh()
    async with mesh.open_node(one_mesh.config("a")) as a, a.watch("who/") as changes:
        assert await anext(changes) == mesh.Synced()
        one_mesh.seeds.append(seed_of(a))
        async with mesh.open_node(one_mesh.config("b")) as b:
            b.register("who/b", while_alive=True).set("here")
            with trio.fail_after(PATIENCE_S):
                change = await anext(changes)
            assert isinstance(change, mesh.Changed)
            assert change.value == "here"
        with trio.fail_after(PATIENCE_S):
            gone = await anext(changes)
        assert gone == mesh.Changed("who/b", "register", None, None)


async def test_leaving_is_said_not_suspected() -> None:
    one_mesh = Mesh()
    async with mesh.open_node(one_mesh.config("a")) as a, a.events() as events:
        one_mesh.seeds.append(seed_of(a))
        async with mesh.open_node(one_mesh.config("b")):
            await until(lambda: alive(a) == ["a", "b"])
        told: list[mesh.MemberEvent] = []
        with trio.fail_after(PATIENCE_S):
            async for event in events:
                if isinstance(event, mesh.MemberEvent):
                    told.append(event)
                    if isinstance(event, mesh.MemberLeft):
                        break
        assert [type(event) for event in told] == [mesh.MemberUp, mesh.MemberLeft]
        assert {event.name for event in told} == {"b"}
        assert {member.name: member.state for member in a.members()} == {"a": State.ALIVE, "b": State.LEFT}


async def test_replicated_waits_for_copies() -> None:
    async with open_nodes("a", "b", "c") as (a, b, c):
        a.register("x").set(1)
        with trio.fail_after(PATIENCE_S):
            await a.replicated(copies=2)
        assert b.register("x").value == c.register("x").value == 1
        with trio.move_on_after(0.3) as scope:
            await a.replicated(copies=3)
        assert scope.cancelled_caught, "there are only two others"
        with pytest.raises(ValueError, match="copies=nan"):
            await a.replicated(copies=float("nan"))  # type: ignore[arg-type]  # it was content with no copy


async def test_flush_survives_a_restart(tmp_path: Path) -> None:
    one_mesh = Mesh()
    config = one_mesh.config("a", data_dir=tmp_path)
    async with mesh.open_node(config) as node:
        node.register("x").set("kept")
        node.set("s").add(1)
        await node.flush()
        first = node.shelf
    async with mesh.open_node(config) as node:
        assert node.register("x").value == "kept"
        assert set(node.set("s")) == {1}
        assert node.shelf != first, "every start begins a new shelf"
        await node.flush()
        async with node.watch() as changes:
            assert {
                change.path for change in [await anext(changes), await anext(changes)] if isinstance(change, mesh.Changed)
            } == {"x", "s"}


async def test_history_says_who_wrote_and_why_one_won() -> None:
    async with open_nodes("a", "b") as (a, b):
        a.register("x").set("older")
        b.register("x").set("newer")
        await until(lambda: len(a.history("x")) == 2 and len(b.history("x")) == 2)
        newer, older = a.history("x")
        assert (newer.author, newer.value, newer.shown) == ("b", "newer", True)
        assert (older.author, older.value, older.shown) == ("a", "older", False)
        assert "later time" in older.why
        a.register("x").set("settled")
        entries = {entry.value: entry for entry in a.history("x")}
        assert entries["settled"].shown
        assert entries["newer"].why.startswith("covered by")


async def test_writes_that_are_not_allowed_raise_at_the_caller() -> None:
    one_mesh = Mesh()
    one_mesh.authority = mesh.Authority.generate(critical=["tasks/**"])
    async with mesh.open_node(one_mesh.config("a", may_write=("robots/a/**", "tasks/**"))) as node:
        with pytest.raises(mesh.NotPermitted, match=r"robots/a/\*\*"):
            node.register("robots/b/pose").set(1)
        with pytest.raises(mesh.NotPermitted, match="critical"):
            node.register("tasks/1/owner").set("a")
        with pytest.raises(mesh.UnsupportedValue):
            node.register("robots/a/x").set(object())  # type: ignore[arg-type]
        with pytest.raises(mesh.UnsupportedValue):
            node.register("robots/a/x").set(2**64)
        with pytest.raises(mesh.ValueTooLarge):
            node.register("robots/a/x").set(bytes(2 << 20))
        with pytest.raises(mesh.InvalidPath):
            node.register("robots//x")
        node.register("robots/a/x").set(1)
        with pytest.raises(mesh.TypeConflict):
            node.counter("robots/a/x").add(1)
        assert node.register("robots/a/x").value == 1
        for refused in (
            mesh.NotPermitted,
            mesh.UnsupportedValue,
            mesh.ValueTooLarge,
            mesh.TypeConflict,
            mesh.Backpressure,
            mesh.ClockWrong,
        ):
            assert issubclass(refused, mesh.WriteRefused)
            assert issubclass(refused, mesh.MeshError)
    with pytest.raises(mesh.NodeClosed, match="has left"):
        node.register("robots/a/x").set(2)


async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    """A nursery inside once wrapped it in an ExceptionGroup."""
    with pytest.raises(ZeroDivisionError):
        async with mesh.open_node(Mesh().config("a")):
            1 / 0  # noqa: B018
    with pytest.raises(ExceptionGroup) as failure:
        async with mesh.open_node(Mesh().config("a")):
            raise ExceptionGroup("two", [ValueError(), KeyError()])
    assert failure.value.message == "two"


async def test_a_port_in_use_is_a_config_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(mesh.ConfigError, match="another"):
            async with mesh.open_node(Mesh().config("a", bind=f"127.0.0.1:{taken.getsockname()[1]}")):
                pass


async def test_a_data_directory_belongs_to_one_node(tmp_path: Path) -> None:
    config = Mesh().config("a", data_dir=tmp_path)
    async with mesh.open_node(config):
        with pytest.raises(mesh.ConfigError, match="already open"):
            async with mesh.open_node(config):
                pass


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"bind": "nonsense"}, "bind"),
        ({"seeds": "127.0.0.1:1"}, "list"),
        ({"seeds": ["127.0.0.1"]}, "seeds"),
        ({"seeds": ["127.0.0.1:0"]}, "port 0"),
        ({"advertise": "127.0.0.1:0"}, "port 0"),
        ({"preset": "satellite"}, "robot_wifi"),
        ({"preset": ["lan"]}, "preset="),
        ({"preset": None}, "preset="),
        ({"coalesce_ms": -1}, "coalesce_ms"),
        ({"coalesce_ms": "5"}, "coalesce_ms"),
        ({"coalesce_ms": float("nan")}, "coalesce_ms"),
        ({"bind": 7946}, "bind"),
        ({"seeds": [7946]}, "seeds"),
        ({"seeds": None}, "seeds"),
        ({"advertise": 7946}, "advertise"),
        ({"data_dir": ""}, "data_dir"),
        ({"data_dir": b"data"}, "data_dir"),
        ({"data_dir": 7}, "data_dir"),
        ({"data_dir": "a\0b"}, "data_dir"),
        ({"data_dir": "\ud800"}, "data_dir"),
        ({"judges": 5}, "judges"),
        ({"judges": [5]}, "judges"),
    ],
)
def test_a_wrong_configuration_is_named(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(mesh.ConfigError, match=complaint):
        Mesh().config("a", **options)


def test_a_configuration_needs_a_membership() -> None:
    with pytest.raises(mesh.ConfigError, match="membership is of type NoneType"):
        mesh.NodeConfig(membership=None)  # type: ignore[arg-type]


async def test_a_node_alone_is_in_step_at_once_and_leaves_at_once() -> None:
    started = trio.current_time()
    async with open_nodes("a") as (a,):
        async with a.watch() as changes:
            assert await anext(changes) == mesh.Synced()
        assert a.caught_up
    assert trio.current_time() - started < 1


async def test_a_node_whose_seeds_are_silent_works_alone() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        one_mesh = Mesh()
        one_mesh.seeds.append(f"127.0.0.1:{silent.getsockname()[1]}")
        async with mesh.open_node(one_mesh.config("a")) as a:
            a.register("x").set(1)
            async with a.watch() as changes:
                assert isinstance(await anext(changes), mesh.Changed)
                with trio.fail_after(PATIENCE_S):
                    assert await anext(changes) == mesh.Synced()


async def test_readers_end_when_the_node_leaves() -> None:
    async def read_all(node: mesh.Node) -> None:
        async with node.watch() as changes, node.events() as events:
            async for _ in changes:
                pass
            async for _ in events:
                pass

    async with trio.open_nursery() as nursery, open_nodes("a") as (a,):
        nursery.start_soon(read_all, a)
        await until(lambda: bool(a._event_streams))


async def test_a_node_that_has_ended_cannot_be_watched() -> None:
    async with open_nodes("a") as (a,):
        made_before = a.watch()
    with pytest.raises(mesh.NodeClosed, match="has ended"):
        a.watch()
    with pytest.raises(mesh.NodeClosed, match="has ended"):
        a.events()
    with pytest.raises(mesh.NodeClosed, match="has ended"):
        await made_before.__aenter__()


async def test_a_reader_that_is_not_opened_says_so() -> None:
    async with open_nodes("a") as (a,):
        for reader in (a.watch(), a.events()):
            with trio.fail_after(PATIENCE_S), pytest.raises(RuntimeError, match="async with"):
                await anext(reader)


@pytest.mark.parametrize("limit", [0, -1, None, "8", 1.5])
async def test_a_reader_needs_room(limit: Any) -> None:
    async with open_nodes("a") as (a,):
        for read in (a.watch, a.events):
            with pytest.raises(ValueError, match="limit="):
                read(limit=limit)


def test_every_event_has_a_public_name() -> None:
    told = {name for name, found in vars(mesh.events).items() if isinstance(found, type) and issubclass(found, mesh.Event)}
    assert told <= set(dir(mesh))
    assert all(getattr(mesh, name) is getattr(mesh.events, name) for name in told)


async def test_statistics_are_numbers_that_grow() -> None:
    async with open_nodes("a", "b") as (a, b):
        a.register("x").set(1)
        await until(lambda: b.register("x").value == 1)
        statistics = b.statistics()
        assert statistics["socket"]["received"] > 0
        assert statistics["uptime_s"] > 0
        assert statistics["members"] >= 1


async def test_a_core_that_fails_ends_the_block_with_what_it_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving once waited half a minute for turns of a loop that was gone."""

    def fail(self: Peer, now: Now) -> None:
        raise ZeroDivisionError

    async def use(node: mesh.Node) -> None:
        monkeypatch.setattr(Peer, "tick", fail)
        node.register("x").set(1)
        with pytest.raises(mesh.NodeClosed), trio.CancelScope(shield=True):
            await node.flush()
        await trio.sleep_forever()

    started = trio.current_time()
    with pytest.raises(ZeroDivisionError):
        async with mesh.open_node(Mesh().config("a")) as node:
            await use(node)
    assert trio.current_time() - started < 5


async def test_who_waits_for_copies_of_a_node_that_leaves_is_told() -> None:
    async with trio.open_nursery() as nursery:

        async def wait(node: mesh.Node) -> None:
            with pytest.raises(mesh.NodeClosed):
                await node.replicated(copies=1)

        async with open_nodes("a") as (a,):
            a.register("x").set(1)
            nursery.start_soon(wait, a)
            await a.flush()


async def test_ipv6_and_names_work_too() -> None:
    one_mesh = Mesh()
    try:
        async with mesh.open_node(one_mesh.config("a", bind="[::1]:0")) as a:
            one_mesh.seeds.append(f"[::1]:{a.address[1]}")
            async with mesh.open_node(one_mesh.config("b", bind="[::1]:0")) as b:
                await until(lambda: alive(a) == alive(b) == ["a", "b"])
    except mesh.ConfigError as error:
        pytest.skip(f"no IPv6 here: {error}")
    one_mesh = Mesh()
    async with mesh.open_node(one_mesh.config("c")) as c:
        one_mesh.seeds.append(f"localhost:{c.address[1]}")
        async with mesh.open_node(one_mesh.config("d")) as d:
            await until(lambda: alive(c) == alive(d) == ["c", "d"])


async def test_a_large_value_arrives_whole() -> None:
    async with open_nodes("a", "b") as (a, b):
        photo = bytes(range(256)) * 1000
        async with b.watch("photo") as changes:
            assert await anext(changes) == mesh.Synced()
            a.register("photo").set(photo)
            with trio.fail_after(PATIENCE_S):
                change = await anext(changes)
        assert isinstance(change, mesh.Changed)
        assert change.value == photo, "and nobody is told of a part of it"
        assert [entry.value for entry in b.history("photo")] == [photo]


async def test_a_node_finds_the_others_again_without_seeds(tmp_path: Path) -> None:
    one_mesh = Mesh()
    async with mesh.open_node(one_mesh.config("a")) as a:
        config = one_mesh.config("b", data_dir=tmp_path)
        async with mesh.open_node(replace(config, seeds=[seed_of(a)])) as b:
            await until(lambda: alive(b) == ["a", "b"])
            await b.flush()
        async with mesh.open_node(config) as b:
            await until(lambda: alive(a) == alive(b) == ["a", "b"])


async def test_backpressure_from_the_disk_is_told_to_the_writer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with mesh.open_node(Mesh().config("a", data_dir=tmp_path)) as node:
        monkeypatch.setattr(type(node._store), "congested", True)
        with pytest.raises(mesh.Backpressure, match="flush"):
            node.register("x").set(1)


async def test_a_node_that_moves_tells_the_others() -> None:
    one_mesh = Mesh()
    async with mesh.open_node(one_mesh.config("a")) as a:
        one_mesh.seeds.append(seed_of(a))
        async with mesh.open_node(one_mesh.config("b", bind="0.0.0.0:0", advertise=None)) as b:
            await until(lambda: alive(a) == alive(b) == ["a", "b"])
            here = ("127.0.0.2", b.address[1])
            b.readdress(here)
            assert b.address == here
            await until(lambda: here in {member.address for member in a.members()})
            a.register("x").set(1)
            await until(lambda: b.register("x").value == 1)


async def test_leaving_can_be_hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a probe interval of minutes nobody waits for three of them."""
    one_mesh = Mesh()
    async with mesh.open_node(one_mesh.config("a", preset="lora")) as a:
        one_mesh.seeds.append(seed_of(a))
        a.hurry()
        started = trio.current_time()
        async with mesh.open_node(one_mesh.config("b", preset="lora")) as b:
            await until(lambda: alive(b) == ["a", "b"])
            monkeypatch.setattr(UdpSocket, "send", lambda *_: False)  # nobody hears anybody any more
            b.hurry()
        assert trio.current_time() - started < 5
