"""Agreement as a program sees it: real nodes on loopback, three of which vote."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

import mesh
from consensus_escalation.certificate import verify_certificate_untrusted
from crdt.ids import ReplicaId
from crdt.ops import Path
from mesh.critical.handle import HANDLES_MAX, CriticalHandles
from mesh.critical.judges import Judge, ask_all
from tests.node.agents import PATIENCE_S, Mesh, alive, seed_of, until

CRITICAL = ("tasks/**", "locks/**", "valves/**")


@asynccontextmanager
async def open_quorum(
    *names: str,
    voters: int = 3,
    judges: Sequence[Judge] = (),
    predicates: Mapping[str, Sequence[Callable[..., Any]]] | None = None,
) -> AsyncIterator[list[mesh.Node]]:
    """Agents of one mesh, the first of which vote; waits until they do. `predicates`: by the name of the agent."""
    one_mesh = Mesh(CRITICAL)
    async with AsyncExitStack() as stack:
        nodes: list[mesh.Node] = []
        for number, name in enumerate(names):
            given = (predicates or {}).get(name, ())
            config = one_mesh.config(name, voter=number < voters, judges=judges, predicates=given)
            node = await stack.enter_async_context(mesh.open_node(config))
            one_mesh.seeds.append(seed_of(node))
            nodes.append(node)
        await until(lambda: all(alive(node) == sorted(names) for node in nodes))
        await until(lambda: all(len(node.quorum().voters) == voters and node.quorum().leader for node in nodes))
        await until(lambda: not any(is_changing(node) for node in nodes))
        yield nodes


def is_changing(node: mesh.Node) -> bool:
    """Voters are on their way in or out; a proposal that is judged meanwhile has to be judged again."""
    chain = node._peer.quorum.chain
    return chain is None or chain.config.is_joint or bool(chain.config.learners)


async def test_a_critical_write_on_any_agent_is_agreed_and_proven() -> None:
    async with open_quorum("a", "b", "c", "d") as nodes:
        *_, d = nodes
        receipt = await d.critical("tasks/42/owner").set("r7")
        assert d.critical("tasks/42/owner").value == "r7"
        assert await nodes[1].critical("tasks/42/owner").get() == "r7", "linearizable, everywhere"
        chain = d._peer.quorum.chain
        assert chain is not None
        config = chain.log.config_before(receipt.index)[1]
        header = verify_certificate_untrusted(receipt.certificate, config, receipt.epoch, chain.keys)
        assert (header.index, header.term) == (receipt.index, receipt.term)
        await d.critical("tasks/42/owner").delete()
        assert await nodes[0].critical("tasks/42/owner").get() is None


async def test_several_writes_are_agreed_on_at_once_and_each_has_its_own_outcome() -> None:
    async with open_quorum("a", "b", "c", "d") as nodes:
        *_, d = nodes
        await d.critical("tasks/0/owner").set("somebody")
        wishes = [d.critical(f"tasks/{number}/owner").to_set(number) for number in range(1, 100)]
        wishes[10:10] = [
            d.critical("tasks/0/owner").to_compare_and_set("nobody", "r7"),
            d.critical("tasks/x/safety/enabled").to_set(False),
            d.critical("tasks/1/owner").to_compare_and_set(1, "r1"),
            d.critical("tasks/0/owner").to_delete(),
        ]
        found = await d.agree(wishes)
        mismatch, refused = found[10:12]
        assert isinstance(mismatch, mesh.NotCommitted)
        assert mismatch.current == "somebody"
        assert isinstance(refused, mesh.NotCommitted)
        assert refused.reason == "rule: safety-off"
        receipts = [each for each in found if isinstance(each, mesh.Receipt)]
        assert len(receipts) == len(wishes) - 2
        assert len({receipt.idempotency_key for receipt in receipts}) == len(receipts)
        chain = d._peer.quorum.chain
        assert chain is not None
        blocks = [chain.log.get(index) for index in sorted({receipt.index for receipt in receipts})]
        signed = [entry for block in blocks if block is not None for entry in block.entries if entry.signature]
        assert 2 <= len(signed) <= 8, "a signature for each block that they fill"
        assert [d.critical(f"tasks/{number}/owner").value for number in range(100)] == [None, "r1", *range(2, 100)]
        assert await d.agree([]) == []
        with trio.move_on_after(0) as cancelled:
            await d.agree([d.critical("tasks/9/owner").to_delete()])
        assert cancelled.cancelled_caught
        assert await nodes[1].critical("tasks/9/owner").get() == 9, "cancelled before it was asked for"


async def test_who_is_answered_together_asks_together_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of them did not wait for the others: every other block of 64 clients held one entry."""
    async with open_quorum("a", "b", "c") as [a, _, _]:
        clerk, hurries = a._clerk, list[int]()
        hurry, before = clerk._hurry, list[int]()

        def counted() -> None:
            hurries.append(1)
            hurry()

        monkeypatch.setattr(clerk, "_hurry", counted)

        async def client(number: int) -> None:
            await a.critical("tasks/0/owner").set("all", idempotency_key="of all")
            before.append(len(hurries))
            await a.critical(f"tasks/{number}/owner").set(number)

        async with trio.open_nursery() as nursery:
            for number in range(1, 9):
                nursery.start_soon(client, number)
        assert before[0] > 0, "who waits alone is in a hurry"
        assert before == [len(hurries)] * 8


async def test_several_writes_under_one_key_are_the_same_writes() -> None:
    async with open_quorum("a", voters=1) as (a,):
        wishes = [a.critical(f"tasks/{number}").to_set(number) for number in range(100)]
        wishes[50] = a.critical("tasks/50").to_compare_and_set("nobody", "r7")
        first = await a.agree(wishes[:60], idempotency_key="order-17")
        await a.critical("tasks/1").set("later")
        again = await a.agree(wishes, idempotency_key="order-17")
        assert [type(each) for each in again[:60]] == [type(each) for each in first]
        indexes = [each.index for each in first + again[:60] if isinstance(each, mesh.Receipt)]
        assert indexes[:59] == indexes[59:], "what was done is not done again"
        assert isinstance(again[50], mesh.NotCommitted)
        assert again[50].reason == "mismatch"
        assert a.critical("tasks/1").value == "later"
        assert [a.critical(f"tasks/{number}").value for number in range(60, 100)] == list(range(60, 100)), "the rest is done"
        other = await a.agree([a.critical("tasks/0").to_set(0), a.critical("tasks/1").to_delete()], idempotency_key="order-17")
        assert isinstance(other[0], mesh.Receipt)
        assert isinstance(other[1], mesh.NotCommitted), "another write under the same key"
        assert a.critical("tasks/1").value == "later"
        one = first[7]
        assert isinstance(one, mesh.Receipt)
        assert (await a.critical("tasks/7").set(7, idempotency_key=one.idempotency_key)).index == one.index, "each has a key"
        found: list[list[mesh.Receipt | mesh.NotCommitted | mesh.OutcomeUnknown]] = []

        async def ask() -> None:
            found.append(await a.agree([a.critical(f"tasks/x/{number}").to_set(1) for number in range(40)], idempotency_key=b"x"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        assert found[0] == found[1], "two tasks that ask for the same at once wait for the same"
        assert all(isinstance(each, mesh.Receipt) for each in found[0])
        with pytest.raises(mesh.UnsupportedValue):
            await a.agree(wishes, idempotency_key="")
        with pytest.raises(mesh.UnsupportedValue, match="is no wish"):
            await a.agree(["tasks/1"])  # type: ignore[list-item]


async def test_a_key_whose_numbers_end_too_soon_poisons_no_log() -> None:
    """The last of the list had a number of 65 bits: the leader wrote it into a block that nobody, itself included, could read."""
    async with open_quorum("a", voters=1) as (a,):
        wishes = [a.critical(f"tasks/{number}").to_set(number) for number in range(3)]
        last = f"gm1-{a._peer.quorum.wall:x}-{(1 << 64) - 3:x}"
        found = await a.agree(wishes, idempotency_key=last)
        assert all(isinstance(each, mesh.Receipt) for each in found)
        for key in (f"gm1-{a._peer.quorum.wall:x}-{(1 << 64) - 2:x}", "gm1-ffffffffffffffff-ffffffffffffffff"):
            with pytest.raises(mesh.UnsupportedValue, match="not one that a node made"):
                await a.agree(wishes, idempotency_key=key)
        with pytest.raises(mesh.OutcomeUnknown, match="still to come"):
            await a.critical("tasks/1").set(1, idempotency_key=f"gm1-{a._peer.quorum.wall + 10**13:x}-5")


async def test_several_writes_that_were_cancelled_are_asked_for_again_with_the_same_key() -> None:
    async with open_quorum("a", voters=1) as (a,):
        wishes = [a.critical(f"tasks/{number}").to_set(number) for number in range(3)]
        desk = a._peer.quorum._desk
        submit, desk._submit = desk._submit, lambda _given: None  # the leader never hears of it
        with trio.move_on_after(0.05) as cancelled:
            await a.agree(wishes, idempotency_key="k")
        assert cancelled.cancelled_caught
        desk._submit = submit
        with trio.fail_after(PATIENCE_S):
            assert all(isinstance(each, mesh.Receipt) for each in await a.agree(wishes, idempotency_key="k"))


async def test_compare_and_set_has_one_winner() -> None:
    async with open_quorum("a", "b", "c", "d") as nodes:
        won: list[str] = []
        lost: list[mesh.NotCommitted] = []

        async def claim(node: mesh.Node) -> None:
            try:
                await node.critical("tasks/1/owner").compare_and_set(None, node.name)
                won.append(node.name)
            except mesh.NotCommitted as error:
                lost.append(error)

        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(claim, node)
        assert len(won) == 1
        assert [(error.reason, error.current) for error in lost] == [("mismatch", won[0])] * 3


async def test_the_same_key_is_the_same_write() -> None:
    async with open_quorum("a", voters=1) as (a,):
        task = a.critical("tasks/1")
        first = await task.set(1, idempotency_key="order-17")
        await task.set(2)
        with trio.fail_after(PATIENCE_S):
            again = await task.set(1, idempotency_key="order-17")
        with pytest.raises(mesh.NotCommitted, match="another write"):
            await task.set(5, idempotency_key="order-17")
        assert again.index == first.index
        assert task.value == 2, "done once"
        third = await task.set(1, idempotency_key=first.idempotency_key)
        assert third.index == first.index
        with pytest.raises(mesh.OutcomeUnknown, match="older than"):
            await task.set(3, idempotency_key="gm1-1-5")


async def test_without_a_quorum_it_is_definitely_not_done() -> None:
    async with mesh.open_node(Mesh(CRITICAL).config("a")) as node:
        assert node.quorum() == mesh.Quorum(None, 0, (), 0)
        with pytest.raises(mesh.NotCommitted, match="no quorum"), trio.fail_after(PATIENCE_S):
            await node.critical("tasks/1").set(1)
        with pytest.raises(mesh.NotPermitted, match="critical prefix"):
            node.critical("robots/1")


async def test_what_ends_before_its_outcome_is_unknown() -> None:
    """The majority is gone: a write waits. It is not known when the node leaves, and its key is told."""
    caught: list[mesh.OutcomeUnknown] = []

    async def write(node: mesh.Node) -> None:
        try:
            await node.critical("tasks/1").set(1)
        except mesh.OutcomeUnknown as error:
            caught.append(error)

    async with trio.open_nursery() as nursery, open_quorum("a", voters=1) as (a,):
        a._peer.quorum._desk._submit = lambda _given: None  # the leader never hears of it
        nursery.start_soon(write, a)
        await trio.sleep(0.05)
    assert caught[0].idempotency_key.startswith("gm1-")


async def test_of_several_writes_what_ends_before_its_outcome_is_unknown() -> None:
    found: list[mesh.Receipt | mesh.NotCommitted | mesh.OutcomeUnknown] = []

    async def write(node: mesh.Node) -> None:
        found.extend(await node.agree([node.critical(f"tasks/{number}").to_set(number) for number in range(3)]))

    async with trio.open_nursery() as nursery, open_quorum("a", voters=1) as (a,):
        a._peer.quorum._desk._submit = lambda _given: None  # the leader never hears of it
        nursery.start_soon(write, a)
        await trio.sleep(0.05)
    assert [type(each) for each in found] == [mesh.OutcomeUnknown] * 3


async def test_a_node_that_has_ended_says_so() -> None:
    """What asked the quorum after the node's block waited for ever."""
    async with open_quorum("a", voters=1) as (a,):
        handle = a.critical("tasks/1")
        await handle.set(1)
    with trio.fail_after(PATIENCE_S):
        for ask in (handle.get, lambda: handle.set(2), handle.delete, a.lease("locks/1", 1.0).__aenter__):
            with pytest.raises(mesh.NodeClosed):
                await ask()
    assert handle.value == 1


async def test_waiting_ends_when_it_is_cancelled() -> None:
    async with open_quorum("a", voters=1) as (a,):
        a._peer.quorum._desk._submit = lambda _given: None
        with trio.move_on_after(0.05) as scope:
            await a.critical("tasks/1").set(1)
        assert scope.cancelled_caught
        assert not a._clerk._waiting


async def test_what_is_too_large_or_no_value_is_refused_at_once() -> None:
    async with open_quorum("a", voters=1) as (a,):
        with pytest.raises(mesh.ValueTooLarge):
            await a.critical("tasks/1").set("x" * 600)
        with pytest.raises(mesh.UnsupportedValue):
            await a.critical("tasks/1").set(object())  # type: ignore[arg-type]
        for thought in (mesh.Thought(intent=5), mesh.Thought(rationale=None), mesh.Thought(trace="\ud800")):  # type: ignore[arg-type]
            with pytest.raises(mesh.UnsupportedValue):  # and not "outside what its author may write", once it was in the log
                await a.propose(thought)


async def test_a_lease_is_held_by_one_and_passed_on() -> None:
    async with open_quorum("a", "b", "c") as (a, b, _):
        order: list[tuple[str, int]] = []

        async def work(node: mesh.Node) -> None:
            async with node.lease("locks/dock-3", ttl=1.0) as lease:
                assert 0 < lease.remaining <= 1.0
                order.append((node.name, lease.fencing_token))
                await trio.sleep(0.05)
                order.append((node.name, lease.fencing_token))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, a)
            nursery.start_soon(work, b)
        assert order[0] == order[1]
        assert order[2] == order[3]
        assert order[2][1] > order[0][1]


async def test_a_lease_lasts_as_long_as_its_block() -> None:
    async with open_quorum("a", voters=1) as (a,):
        async with a.lease("locks/1", ttl=1.5) as lease:
            renewed = {lease._good_until}
            while len(renewed) <= 4:  # two seconds; less patience than that and a busy machine would end it
                await trio.sleep(0.05)
                renewed.add(lease._good_until)
            assert not lease.lost
            held = a._peer.quorum.chain.machine.lease(("locks", "1"))  # type: ignore[union-attr]
            assert held is not None
            assert held.token == lease.fencing_token
        assert a._peer.quorum.chain.machine.lease(("locks", "1")) is None  # type: ignore[union-attr]


async def test_a_lease_that_cannot_be_renewed_cancels_its_block_and_ends() -> None:
    """When exactly: tests/node/test_lease.py."""
    async with open_quorum("a", voters=1) as (a,):
        submit = a._peer.quorum._desk._submit

        async def work() -> None:
            async with a.lease("locks/1", ttl=3.0):
                a._peer.quorum._desk._submit = lambda _given: None
                await trio.sleep_forever()

        with pytest.raises(mesh.LeaseLost):
            await work()
        a._peer.quorum._desk._submit = submit
        await until(lambda: a._peer.quorum.chain.machine.lease(("locks", "1")) is None)  # type: ignore[union-attr]


async def test_an_error_of_the_block_comes_out_as_it_is_and_the_lease_is_released() -> None:
    async with open_quorum("a", voters=1) as (a,):
        with pytest.raises(KeyError):
            async with a.lease("locks/1", ttl=5.0):
                raise KeyError("mine")
        with trio.fail_after(1.0):
            async with a.lease("locks/1", ttl=5.0):
                pass


async def test_what_a_rule_refuses_is_void_and_says_which() -> None:
    async with open_quorum("a", "b", "c") as (a, _, c):
        with pytest.raises(mesh.NotCommitted, match="rule: shell-destroys"):
            await c.propose(mesh.Thought(intent="shell.run", arguments={"command": "rm -rf /"}, path="tasks/next", value=1))
        assert await a.critical("tasks/next").get() is None


async def until_refused(events: Any) -> AsyncIterator[mesh.ProposalRefused]:
    async for event in events:
        if isinstance(event, mesh.ProposalRefused):
            yield event
            return


async def test_the_dangerous_needs_a_judges_yes() -> None:
    asked: list[mesh.Question] = []

    async def foreman(question: mesh.Question) -> bool | str:
        asked.append(question)
        return True if question.rationale == "tank is full" else "the foreman says no"

    opening = mesh.Thought(intent="valve.open", rationale="tank is full", path="valves/3", value="open")
    async with open_quorum("a", "b", "c", "d") as (_, _, _, d):
        with pytest.raises(mesh.NotCommitted, match="no judge: valve-open"):
            await d.propose(opening)
    async with open_quorum("a", "b", "c", "d", judges=[foreman]) as nodes:
        async with nodes[0].events() as events:
            await nodes[3].propose(opening)
            assert await nodes[0].critical("valves/3").get() == "open"
            assert {question.rule for question in asked} == {"valve-open"}
            with pytest.raises(mesh.NotCommitted, match="the foreman says no"):
                await nodes[3].propose(mesh.Thought(intent="valve.open", path="valves/4", value="open"))
            with trio.fail_after(PATIENCE_S):
                refused = [event async for event in until_refused(events)]
            dissent = refused[-1]
            assert (dissent.path, dissent.intent, dissent.author) == ("valves/4", "valve.open", "d")
            assert dissent.rule == "the foreman says no"
        assert await nodes[0].critical("valves/4").get() is None


async def test_a_person_may_take_longer_than_a_machine() -> None:
    asked = []

    async def person(question: mesh.Question) -> bool:
        asked.append(question)
        await trio.sleep(2.5)
        return True

    async with open_quorum("a", "b", "c", judges=[mesh.time_limit(person, 10.0)]) as (_, _, c):
        await c.propose(mesh.Thought(intent="valve.open", path="valves/3", value="open"))
        assert c.critical("valves/3").value == "open"
    # A busy machine may have elected another leader meanwhile, whose proposal is another one.
    assert max(Counter(question.id for question in asked).values()) <= 3, (
        "nobody is asked twice, though it was sent again and again"
    )


async def test_several_dangerous_writes_at_once_are_endorsed_one_by_one() -> None:
    """They had shared a batch, which the leader took for malformed."""

    async def yes(_question: mesh.Question) -> bool:
        return True

    async with open_quorum("a", "b", "c", "d", judges=[yes]) as (*_, d), trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(d.propose, mesh.Thought(intent="valve.open", path=f"valves/{number}", value="open"))
            nursery.start_soon(d.critical(f"tasks/{number}").set, number)


async def test_rules_change_through_the_log_when_a_judge_agrees() -> None:
    async def yes(_question: mesh.Question) -> bool:
        return True

    async with open_quorum("a", "b", "c", judges=[yes]) as (a, b, _):
        await a.set_rule("only-robots", "refuse", 'matches(path, "tasks/**") and value == "nobody"')
        with pytest.raises(mesh.NotCommitted, match="only-robots"):
            await b.critical("tasks/1").set("nobody")
        await until(lambda: [rule.name for rule in b.rules()][-1] == "only-robots")
        await b.remove_rule("only-robots")
        await b.critical("tasks/1").set("nobody")
    async with open_quorum("a", voters=1) as (a,):
        with pytest.raises(mesh.NotCommitted, match="no judge: policy"):
            await a.remove_rule("safety-off")


async def test_watchers_see_critical_values_beside_the_others() -> None:
    async with open_quorum("a", "b", "c", "d") as (a, _, _, d):
        d.register("tasks-done").set(1)
        await a.critical("tasks/1").set("r1")
        await until(lambda: d.critical("tasks/1").value == "r1")
        told: list[Any] = []
        async with d.watch("tasks/") as changes:
            with trio.fail_after(PATIENCE_S):
                async for change in changes:
                    told.append(change)
                    if isinstance(change, mesh.Synced):
                        await a.critical("tasks/1").set("r2")
                        await a.critical("tasks/1").delete()
                    elif isinstance(change, mesh.Changed) and change.dot is None:
                        break
        first, synced, *rest = told
        assert (first.path, first.type, first.value) == ("tasks/1", "critical", "r1")
        assert isinstance(synced, mesh.Synced)
        assert rest[-1].value is None
        assert d.critical_paths() == []


async def test_judges_say_no_when_they_fail_or_are_late() -> None:
    async def late(_question: mesh.Question) -> bool:
        await trio.sleep_forever()
        return True

    async def broken(_question: mesh.Question) -> bool:
        raise ValueError

    async def yes(_question: mesh.Question) -> bool:
        return True

    async def no(_question: mesh.Question) -> bool:
        return False

    question = mesh.Question(b"", "set", ("a",), 1, "", None, "", "", ReplicaId(bytes(8)), "rule")
    assert await ask_all([yes, yes], question) == ""
    assert await ask_all([yes, no], question) == "no"
    assert await ask_all([broken], question) == "a judge failed"
    assert await ask_all([mesh.time_limit(late, 0.01)], question) == "no answer in time"
    assert await ask_all([mesh.time_limit(late, 0.01, reason="away"), yes], question) == "away"


async def test_nobody_writes_outside_its_rights_not_even_through_the_quorum() -> None:
    """The own node says so at once; the leader does not take it either, from whoever does not ask its own node."""
    one_mesh = Mesh(CRITICAL)
    async with mesh.open_node(one_mesh.config("a", voter=True)) as a:
        one_mesh.seeds.append(seed_of(a))
        async with mesh.open_node(one_mesh.config("b", may_write=("tasks/b/**",))) as b:
            await until(lambda: bool(b.quorum().voters) and b.quorum().leader is not None)
            await b.critical("tasks/b/1").set(1)
            with pytest.raises(mesh.NotPermitted, match="outside what this agent may write"):
                b.critical("tasks/a/1")
            b._clerk.checked = lambda path: path  # type: ignore[method-assign]
            with pytest.raises(mesh.NotCommitted, match="outside what its author may write"):
                await b.critical("tasks/a/1").set(1)


class Rights:
    """What handles ask of a clerk."""

    statements = b"one"
    looks = 0

    def checked(self, path: Path) -> Path:
        self.looks += 1
        if self.statements == b"revoked":
            raise mesh.NotPermitted("revoked")
        return path


def test_a_handle_is_remembered_until_rights_may_have_changed() -> None:
    rights = Rights()
    handles = CriticalHandles(rights)  # type: ignore[arg-type]
    handle = handles.get("tasks/1")
    assert handles.get("tasks/1") is handle
    assert handles.get("tasks/2") is not handle
    assert handles.get(("tasks", "1")).path == "tasks/1"
    assert rights.looks == 3
    rights.statements = b"another"
    assert handles.get("tasks/1") is not handle
    rights.statements = b"revoked"
    with pytest.raises(mesh.NotPermitted):
        handles.get("tasks/1")


def test_few_handles_are_remembered() -> None:
    handles = CriticalHandles(Rights())  # type: ignore[arg-type]
    for number in range(3 * HANDLES_MAX):
        handles.get(f"tasks/{number}")
        assert len(handles._known) <= HANDLES_MAX


@pytest.mark.parametrize("thought", ["x", 5, None, {}])
async def test_a_thought_is_a_thought(thought: Any) -> None:
    """It was a bare AttributeError."""
    async with open_quorum("a", voters=1) as (a,):
        with pytest.raises(mesh.UnsupportedValue, match=r"mesh\.Thought"):
            await a.critical("tasks/1").set(1, thought=thought)
        with pytest.raises(mesh.UnsupportedValue, match=r"mesh\.Thought"):
            await a.propose(thought)


@pytest.mark.parametrize("key", [5, "", b"", ["k"], 1.5])
async def test_an_idempotency_key_is_a_name(key: Any) -> None:
    """A number was a bare AttributeError, and an empty text a name like any other."""
    async with open_quorum("a", voters=1) as (a,):
        with pytest.raises(mesh.UnsupportedValue, match="idempotency_key"):
            await a.critical("tasks/1").set(1, idempotency_key=key)


async def test_a_refusal_says_why() -> None:
    """It named the rule, and left out what the rule says for itself."""
    async with open_quorum("a", voters=1) as (a,):
        with pytest.raises(mesh.NotCommitted, match=r"shell-destroys \(it would destroy files") as caught:
            await a.critical("tasks/1").set("rm -rf /")
        assert caught.value.reason.endswith("shell-destroys")
        with pytest.raises(mesh.NotCommitted, match=r"safety-off \(.+\)"):
            await a.critical("tasks/1").set("x", thought=mesh.Thought(intent="safety.off"))
