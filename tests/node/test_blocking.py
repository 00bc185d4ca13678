"""The node for programs without trio: the same values, from any thread."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import mesh
import mesh.blocking
from mesh.trust import redeem
from tests.node.agents import PATIENCE_S, Mesh


@pytest.fixture
def node() -> Iterator[mesh.blocking.BlockingNode]:
    with mesh.blocking.open_node(Mesh().config("a")) as opened:
        yield opened


def test_handles_read_and_write(node: mesh.blocking.BlockingNode) -> None:
    node.register("pose").set([1.0, 2.0])
    assert node.register("pose").value == [1.0, 2.0]
    seen = node.set("seen")
    seen.add("x")
    seen.update([1, 2])
    assert "x" in seen
    assert len(seen) == 3
    assert sorted(str(element) for element in seen) == ["1", "2", "x"]
    assert set(seen) == {"x", 1, 2}
    plan = node.list("plan")
    plan.extend(["a", "b"])
    plan[0] = "c"
    del plan[1]
    assert list(plan) == ["c"]
    robots = node.map("robots")
    robots["7"] = {"battery": 80}
    robots.map("8")["battery"] = 70
    assert robots["7"] == {"battery": 80}
    assert dict(robots.items())["8"] == {"battery": 70}
    flag = node.flag("armed")
    assert not flag
    flag.enable()
    assert flag
    node.counter("n").add(2)
    assert int(node.counter("n")) == 2
    assert node.log("log").append("entry")
    assert list(node.log("log")) == ["entry"]
    assert node.history("pose")[0].author == "a"


def test_a_listener_is_called_in_the_nodes_thread_and_may_write(node: mesh.blocking.BlockingNode) -> None:
    heard, threads, doubled = list[Any](), set[str](), threading.Event()

    def double(change: mesh.Change) -> None:
        threads.add(threading.current_thread().name)
        if isinstance(change, mesh.Changed):
            heard.append(change.value)
            node.register("twice").set(2 * node.register(change.path).value)
            assert "x" not in node.set("seen")
            with pytest.raises(RuntimeError, match="have another thread do this"):
                node.flush()
            doubled.set()

    node.register("once/a").set(1)
    with node.listen("once", double):
        assert heard == [1], "what is there, before the block"
        doubled.clear()
        node.register("once/a").set(21)
        assert doubled.wait(PATIENCE_S)
        assert node.register("twice").value == 42
    node.register("once/a").set(4)
    node.flush()
    assert heard == [1, 21]
    assert threads == {"mesh node a"}


def test_what_a_callback_raises_ends_the_node() -> None:
    def fail(change: mesh.Change) -> None:
        if isinstance(change, mesh.Changed):
            raise LookupError("the callback's own")

    def write() -> None:
        with mesh.blocking.open_node(Mesh().config("a")) as node, node.watch("b") as changes, node.listen("", fail):
            node.register("a").set(1)
            assert [type(change) for change in changes] == [mesh.Synced]

    with pytest.raises(LookupError, match="the callback's own"):
        write()


def test_sets_compare_and_combine(node: mesh.blocking.BlockingNode) -> None:
    few, many = node.set("few"), node.set("many")
    few.add(1), many.add(1), many.add(2)
    assert few <= many
    assert not many <= few
    assert few < {1, 2} <= many
    assert many - few == {2}
    assert {1, 5} | few == {1, 5}
    assert {1, 5} - few == {5}
    assert few & many == {1}
    assert few ^ many == {2}
    with pytest.raises(TypeError):
        few < 3  # type: ignore[operator]  # noqa: B015


def test_how_the_node_is(node: mesh.blocking.BlockingNode) -> None:
    assert node.is_alone
    assert node.clock_offset is None
    assert len(node.mesh_id) == 16
    before = node.state_digest()
    node.register("x").set(1)
    assert node.state_digest() != before
    with node.watch() as changes:
        while not isinstance(changes.get(timeout=10), mesh.Synced):
            pass
    assert node.caught_up


def test_threads_that_count_at_once_lose_nothing(node: mesh.blocking.BlockingNode) -> None:
    """A handle that read in one call and wrote in another once lost additions of other threads."""
    counter = node.counter("visits")

    def count() -> None:
        for _ in range(50):
            counter.add(1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.value == 200


def test_errors_come_through(node: mesh.blocking.BlockingNode) -> None:
    with pytest.raises(mesh.UnsupportedValue):
        node.register("x").set(object())  # type: ignore[arg-type]
    with pytest.raises(mesh.InvalidPath):
        node.register("")
    node.register("x").set(1)
    with pytest.raises(TimeoutError):
        node.replicated(copies=1, timeout=0.05)
    node.flush(timeout=1)


def test_a_watch_is_an_iterator_that_can_be_asked_with_a_timeout(node: mesh.blocking.BlockingNode) -> None:
    node.register("x/1").set("before")
    with node.watch("x/") as changes:
        first = changes.get(timeout=PATIENCE_S)
        assert isinstance(first, mesh.Changed)
        assert first.value == "before"
        assert next(changes) == mesh.Synced()
        with pytest.raises(TimeoutError):
            changes.get(timeout=0.05)
        writer = threading.Timer(0.05, lambda: node.register("x/2").set("after"))
        writer.start()
        change = next(changes)
        writer.join()
    assert isinstance(change, mesh.Changed)
    assert (change.path, change.value) == ("x/2", "after")


def test_a_watch_ends_with_its_node() -> None:
    heard: list[mesh.Event] = []

    def read(node: mesh.blocking.BlockingNode) -> None:
        with node.watch() as changes:
            heard.extend(changes)

    with mesh.blocking.open_node(Mesh().config("a")) as node:
        reader = threading.Thread(target=read, args=(node,))
        reader.start()
        deadline = time.monotonic() + PATIENCE_S
        while not node._node._watchers and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05)
    reader.join(PATIENCE_S)
    assert not reader.is_alive()
    assert heard == [mesh.Synced()]


def test_a_node_that_has_ended_says_so() -> None:
    with mesh.blocking.open_node(Mesh().config("a")) as node:
        register = node.register("x")
    with pytest.raises(mesh.MeshError, match="has ended"):
        register.set(1)
    with pytest.raises(mesh.MeshError, match="has ended"):
        node.members()


def test_what_keeps_a_node_from_coming_up_is_raised() -> None:
    before = threading.active_count()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        config = Mesh().config("a", bind=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(mesh.ConfigError), mesh.blocking.open_node(config):
            pass
    assert threading.active_count() == before


def test_two_nodes_share(node: mesh.blocking.BlockingNode) -> None:
    one_mesh = Mesh()
    with mesh.blocking.open_node(one_mesh.config("a")) as a:
        host, port = a.address
        one_mesh.seeds.append(f"{host}:{port}")
        with mesh.blocking.open_node(one_mesh.config("b")) as b:
            a.register("x").set(1)
            a.replicated(copies=1, timeout=PATIENCE_S)
            assert b.register("x").value == 1
            assert {member.name for member in a.members()} == {"a", "b"}


PROGRAM = """
import mesh, mesh.blocking
membership = mesh.Authority.generate().enrol(mesh.Identity.generate(), name="a")
with mesh.blocking.open_node(mesh.NodeConfig(membership=membership, bind="127.0.0.1:0")) as node:
    with node.watch() as changes:
        for change in changes:
            print(change, flush=True)
"""


def test_ctrl_c_ends_a_program_that_waits_for_changes() -> None:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "Synced()\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode in (1, -signal.SIGINT)
    assert err.splitlines()[-1] == "KeyboardInterrupt"


def test_keys_are_changed_from_any_thread() -> None:
    authority = mesh.Authority.generate()
    membership = authority.enrol(mesh.Identity.generate(), name="a", may_write=["**", "$keys/**"], delegates=1)
    with mesh.blocking.open_node(mesh.NodeConfig(membership=membership, bind="127.0.0.1:0")) as node:
        assert node.encrypt("secret/**", []) > 0
        node.register("secret/x").set(1)
        assert node.encrypted() == {"secret/**": ["a"]}
        token = node.delegate("tool", may_write=["tools/**"])
        assert redeem(token, mesh.Identity.generate()).name == "tool"
        following = mesh.Identity.generate().of_replica(membership.replica_id)
        rotation = authority.rotate(membership.replica_id, following.public_key)
        node.rekey(replace(membership, identity=following, credential=rotation, statements=(*membership.statements, rotation)))
        node.register("after").set(2)
        node.flush(PATIENCE_S)
        assert node.register("secret/x").value == 1
