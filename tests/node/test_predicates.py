"""Python predicates of a mesh's own: all agents have the same, or say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio

import mesh
from consensus_escalation.expression import Budget
from consensus_escalation.policy import Policy
from crdt.errors import Malformed
from mesh.critical.predicates import predicates_of
from mesh.events import QuorumFault
from tests.node.agents import PATIENCE_S, Mesh, until
from tests.node.test_critical import open_quorum


def near(budget: Budget, pose: Any) -> bool:
    budget.spend(2)
    return bool(abs(pose[0]) + abs(pose[1]) < 10)


def another_near() -> Callable[..., Any]:
    """The next version."""

    def near(budget: Budget, pose: Any) -> bool:
        budget.spend(2)
        return bool(abs(pose[0]) + abs(pose[1]) < 100)

    return near


def fails(_budget: Budget, pose: Any) -> bool:
    return bool(pose.no_such_attribute)


async def yes(_question: mesh.Question) -> bool:
    return True


def opened(**predicates: Sequence[Callable[..., Any]]) -> AbstractAsyncContextManager[list[mesh.Node]]:
    """A voter for each name, with its predicates."""
    return open_quorum(*predicates, judges=[yes], predicates=predicates)


async def test_rules_call_what_was_declared() -> None:
    """A mesh's own functions could be given to the state machine, and no node had a way to give any."""
    async with opened(a=[near], b=[near], c=[near]) as (a, b, c):
        with pytest.raises(mesh.NotCommitted, match="no function near"):
            await a.set_rule("in-reach", "refuse", 'matches(path, "tasks/**") and not near(value)', "it would be out of reach")
        await a.declare_predicate("near")
        await until(lambda: b.quorum().commit_index == a.quorum().commit_index == c.quorum().commit_index)
        await b.set_rule("in-reach", "refuse", 'matches(path, "tasks/**") and not near(value)', "it would be out of reach")
        await c.critical("tasks/1").set([1, 2])
        for wrong in ([50, 2], "no pose"):
            with pytest.raises(mesh.NotCommitted, match=r"in-reach \(it would be out of reach\)"):
                await c.critical("tasks/1").set(wrong)
        with pytest.raises(mesh.NotCommitted, match="a rule calls it"):
            await a.forget_predicate("near")
        await a.remove_rule("in-reach")
        await a.forget_predicate("near")
        assert await b.critical("tasks/1").get() == [1, 2]


async def test_voters_endorse_what_they_have_themselves() -> None:
    async with opened(a=[near], b=[another_near()], c=[]) as (a, b, c):
        with pytest.raises(mesh.NotCommitted, match="another or no near"):
            await a.declare_predicate("near")
        with pytest.raises(mesh.NotCommitted, match="another or no near"):
            await b.declare_predicate("near")
        with pytest.raises(mesh.ConfigError, match="near is no predicate of this agent"):
            await c.declare_predicate("near")
        await c.critical("tasks/1").set(1)


async def test_who_has_another_version_stops_and_says_so() -> None:
    """It would judge otherwise than all others, and show another state."""
    async with opened(a=[near], b=[near], c=[another_near()]) as (a, b, c):
        async with c.events() as events:
            await a.declare_predicate("near")
            with trio.fail_after(PATIENCE_S):
                async for event in events:
                    if isinstance(event, QuorumFault) and "near" in event.detail:
                        break
        stopped_at = c.quorum().commit_index
        await b.critical("tasks/1").set([50, 2])
        await until(lambda: a.critical("tasks/1").value == [50, 2])
        assert c.quorum().commit_index == stopped_at
        assert c.critical("tasks/1").value is None


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ([lambda _budget: True], "no plain function"),
        ([yes], "no plain function"),
        ([len], "no plain function"),
        ([near, near], "another function's name"),
        (5, "predicates=5"),
    ],
)
def test_a_predicate_is_a_function_with_a_name_of_its_own(given: Any, complaint: str) -> None:
    with pytest.raises(mesh.ConfigError, match=complaint):
        Mesh().config("a", predicates=given)


def test_what_is_declared_travels_with_the_policy() -> None:
    given = predicates_of([near, fails])
    policy, stranger = Policy(predicates=given), Policy()
    for name, predicate in given.items():
        assert policy.change_untrusted(["predicate", name, predicate.version]) == ""
        assert stranger.change_untrusted(["predicate", name, predicate.version]) == ""
    assert policy.change_untrusted(["set", "r", "refuse", "near(value) or fails(value)", ""]) == ""
    assert stranger.change_untrusted(["set", "r", "refuse", "near(value) or fails(value)", ""]) == ""
    assert policy.to_value() == stranger.to_value()
    assert not policy.lacking
    assert stranger.lacking
    twin = Policy(predicates=given)
    twin.load_untrusted(policy.to_value())
    assert twin.to_value() == policy.to_value()
    for name in ("matches", "any", "shell_destroys", "No", "a-b", "if"):
        assert policy.change_untrusted(["predicate", name, "0" * 32]) == "not a predicate"
    with pytest.raises(Malformed):
        twin.load_untrusted(["shipped-1", [], [["matches", "0" * 32]]])
