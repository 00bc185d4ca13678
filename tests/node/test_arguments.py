"""What a program passes by mistake: the error says what to pass, and nothing has happened."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio

import mesh
import mesh.blocking
from mesh.trust import Identity
from tests.node.agents import Mesh, until

CRITICAL = ["tasks/**", "locks/**"]
SECRET = Identity.generate().seed


def members_named(node: Any, wrong: Any) -> list[Callable[[], object]]:
    """Where a member's id is wanted."""
    return [
        lambda: node.name_of(wrong),
        lambda: node.below(wrong),
        lambda: node.written_by(wrong),
        lambda: node.encrypt("secret/**", [wrong]),
    ]


async def test_wrong_types_are_told_with_what_to_pass() -> None:
    """Regression: most of these were an AttributeError from somewhere inside, `None` has no attribute `hex`."""
    async with mesh.open_node(Mesh(CRITICAL).config("a", voter=True)) as node:
        await until(lambda: node.quorum().leader is not None)
        wrong: Any
        for wrong in (None, 7, [], b"short", SECRET, object()):
            for call in members_named(node, wrong):
                with pytest.raises(mesh.ConfigError, match=r"8 bytes, such as member\.replica") as told:
                    call()
                assert repr(SECRET)[2:-1] not in str(told.value), "a secret in the wrong place is not shown"
        for wrong in (None, "text", 7):
            with pytest.raises(mesh.ConfigError, match="bytes, as an Authority issues them"):
                node.tell(wrong)
            with pytest.raises(mesh.ConfigError, match=r"no mesh\.Membership"):
                node.rekey(wrong)
        for wrong in (None, "a", b"12345678", 7):
            with pytest.raises(mesh.ConfigError, match="a list of names or ids"):
                node.encrypt("secret/**", wrong)
        for wrong in ("x", 1.5, [], True):
            with pytest.raises(mesh.ConfigError, match=r"receipt\.index"):
                node.ledger(only=wrong)
        for wrong in ([], 0, ""):
            with pytest.raises(mesh.ConfigError, match="name"):
                node.delegate(wrong, may_write=["q/**"])
        for wrong in (None, 7):
            with pytest.raises(mesh.UnsupportedValue, match=r"map\.update"):
                node.map("m").update(wrong)
            with pytest.raises(mesh.UnsupportedValue, match=r"member\.replica"):
                node.bounded_counter("b").transfer(wrong, 1)
            with pytest.raises(mesh.UnsupportedValue, match="to_set"):
                await node.agree(wrong)
        with pytest.raises(mesh.UnsupportedValue, match="to_set"):
            await node.agree(node.critical("tasks/1").to_set(1))  # type: ignore[arg-type]  # one, not a list of it
        for wrong in ("yes", None, object(), "\ud800"):
            with pytest.raises(mesh.UnsupportedValue, match="True or False"):
                await node.propose(mesh.Thought(dangerous=wrong))
        with pytest.raises(mesh.UnsupportedValue):
            await node.set_rule("name\ud800", "judge", "true")
        with pytest.raises(mesh.ConfigError, match="predicates"):
            await node.declare_predicate([])  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="limit="):
            node.events(limit=sys.maxsize + 1)
        with pytest.raises(TypeError, match="integer"):
            node.list("l").insert(None, 1)  # type: ignore[arg-type]
        assert not list(node.keys(())), "nothing was written"
        assert await node.critical("tasks/1").get() is None, "nor agreed on"


async def test_a_node_that_has_ended_says_so() -> None:
    """Regression: a token was made that no member could ever know of, and a statement was taken that reached nobody."""
    config = Mesh(CRITICAL).config("a", voter=True)
    async with mesh.open_node(config) as node:
        statement = node.statements()[0]
        await node.leave()  # and again at the end of the block: that was an error of trio's
    for call in (
        partial(node.delegate, may_write=["q/**"]),
        partial(node.tell, statement),
        partial(node.rekey, config.membership),
        node.watch,
        node.events,
        partial(node.register("x").set, 1),
        partial(node.encrypt, "secret/**", []),
    ):
        with pytest.raises(mesh.NodeClosed, match="inside its `async with` block"):
            call()


async def test_another_thread_is_sent_back() -> None:
    """Regression: the first write of another thread was made and raised an error, and the node slept until something else woke
    it up; what waited there waited for ever."""

    def elsewhere(call: Callable[[], Any]) -> None:
        with pytest.raises(RuntimeError, match=r"trio\.from_thread\.run, or use mesh\.blocking"):
            call()

    async with mesh.open_node(Mesh(CRITICAL).config("a", voter=True)) as node:
        await until(lambda: node.quorum().leader is not None)
        critical = node.critical("tasks/1")
        for call in (
            partial(node.register("x").set, 1),
            partial(node.delegate, may_write=["q/**"]),
            node.watch,
            partial(trio.run, node.flush),
            partial(trio.run, node.replicated),
            partial(trio.run, critical.set, 1),
            partial(trio.run, critical.get),
        ):
            with trio.fail_after(5.0):
                await trio.to_thread.run_sync(elsewhere, call)
        assert node.register("x").value is None
        assert await critical.get() is None
        node.register("x").set(2)
        with trio.fail_after(1.0):
            await node.flush()


def test_a_blocking_call_wants_a_time_in_seconds() -> None:
    """Regression: `'<' not supported between instances of 'str' and 'int'`."""
    wrong: Any
    with mesh.blocking.open_node(Mesh(CRITICAL).config("a", voter=True)) as node:
        for wrong in (-1, "1", float("nan"), True):
            for call in (
                partial(node.flush, timeout=wrong),
                partial(node.replicated, 0, timeout=wrong),
                partial(node.critical("tasks/1").set, 1, timeout=wrong),
                partial(node.agree, [], timeout=wrong),
                partial(node.lease("locks/1", 1.0, timeout=wrong).__enter__),
            ):
                with pytest.raises(ValueError, match="a number of seconds, or None"):
                    call()
        with pytest.raises(mesh.ConfigError, match="a list of names"):
            node.encrypt("secret/**", None)  # type: ignore[arg-type]
