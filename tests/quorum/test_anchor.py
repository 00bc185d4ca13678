"""What a newcomer's token says of the quorum's log: it takes no history that contradicts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from consensus_escalation.anchor import Anchor, agrees, anchor_from_value_untrusted
from consensus_escalation.block import Block, Entry, Header, Kind, cut
from consensus_escalation.certificate import Ack, ack_bytes
from consensus_escalation.chain import Chain
from consensus_escalation.types import Purpose
from crdt.errors import Malformed
from mesh.events import QuorumFault
from mesh.presets import LAN
from mesh.quorum.scores import read_score
from mesh.testing import Mesh, open_mesh
from mesh.wire import cbor
from tests.quorum.helpers import DONE, chain_of, has_voters, leader, put, replica, shown_with_proof, value, wait

CRITICAL = ("tasks/**",)
NEWCOMER = 5


def settled(mesh: Mesh, writes: int) -> Mesh:
    assert mesh.run_until(lambda: has_voters(mesh, 3) and leader(mesh) is not None, 10.0)
    for n in range(writes):
        wait(mesh, 4, put(mesh, 4, f"tasks/{n % 7}", n))
    assert mesh.run_until(lambda: shown_with_proof(mesh, f"tasks/{(writes - 1) % 7}", writes - 1), 5.0)
    return mesh


def join(mesh: Mesh, anchor: Anchor | None) -> None:
    """The last host is a newcomer with this token: nothing is on its disk."""
    if NEWCOMER in mesh.running:
        mesh.crash(NEWCOMER)
    mesh.memberships[NEWCOMER] = replace(mesh.memberships[NEWCOMER], anchor=anchor)
    for disk in (mesh.hosts[NEWCOMER].disk, mesh.hosts[NEWCOMER].journal):
        assert disk is not None
        disk.lose()
    mesh.restart(NEWCOMER)


def awaits(mesh: Mesh) -> int:
    status = mesh.peer(NEWCOMER).quorum.status
    return status.awaited_index if status is not None else -1


def faults(mesh: Mesh) -> list[str]:
    return [event.detail for event in mesh.node(NEWCOMER).told if isinstance(event, QuorumFault)]


@pytest.mark.parametrize(("snapshot_blocks", "further"), [(4096, 5), (30, 0), (30, 40)])
def test_the_true_history_is_taken_however_old_the_token_is(snapshot_blocks: int, further: int) -> None:
    """Block by block; by a snapshot from below the anchor, and from far above it."""
    preset = replace(LAN, quorum=replace(LAN.quorum, snapshot_blocks=snapshot_blocks))
    with open_mesh(6, voters=3, critical=CRITICAL, preset=preset) as mesh:
        settled(mesh, 40)
        anchor = chain_of(mesh, 4).anchor
        assert anchor.index == chain_of(mesh, 4).applied
        assert anchor_from_value_untrusted(list(anchor)) == anchor
        for n in range(further):
            wait(mesh, 4, put(mesh, 4, "tasks/later", n))
        join(mesh, anchor)
        assert mesh.run_until(lambda: shown_with_proof(mesh, "tasks/4", 39), 10.0)
        assert awaits(mesh) == 0
        assert faults(mesh) == []
        assert wait(mesh, NEWCOMER, put(mesh, NEWCOMER, "tasks/0", "on")).status is DONE
        join(mesh, Anchor(1, 0, chain_of(mesh, 4).genesis.hash, 0, chain_of(mesh, 4).genesis.hash))
        assert mesh.run_until(lambda: shown_with_proof(mesh, "tasks/0", "on"), 10.0), "made before anything was agreed on"


@pytest.mark.parametrize("snapshot_blocks", [4096, 30])
def test_who_knows_less_than_the_token_tells_a_newcomer_nothing(snapshot_blocks: int) -> None:
    preset = replace(LAN, quorum=replace(LAN.quorum, snapshot_blocks=snapshot_blocks))
    with open_mesh(6, voters=3, critical=CRITICAL, preset=preset) as mesh:
        settled(mesh, 40)
        mesh.crash(NEWCOMER)
        mesh.cut([0, 1, 2, 4], [3, 5])
        for n in range(10):
            wait(mesh, 4, put(mesh, 4, "tasks/new", n))
        anchor = chain_of(mesh, 4).anchor
        join(mesh, anchor)
        mesh.run(2.5)
        assert awaits(mesh) == anchor.index, "it reaches one that is behind, and waits"
        assert value(mesh, NEWCOMER, "tasks/1") is None
        assert value(mesh, 3, "tasks/1") == 36
        mesh.restart(NEWCOMER)
        mesh.run(1.0)
        assert awaits(mesh) == anchor.index, "a restart changes nothing"
        mesh.heal()
        assert mesh.run_until(lambda: value(mesh, NEWCOMER, "tasks/new") == 9, 10.0)
        assert awaits(mesh) == 0
        mesh.run(0.5)
        mesh.restart(NEWCOMER)
        assert value(mesh, NEWCOMER, "tasks/new") == 9, "on its disk"


@pytest.mark.parametrize("snapshot_blocks", [4096, 30])
def test_another_history_than_the_tokens_is_never_taken_and_the_operator_hears_of_it(snapshot_blocks: int) -> None:
    preset = replace(LAN, quorum=replace(LAN.quorum, snapshot_blocks=snapshot_blocks))
    with open_mesh(6, voters=3, critical=CRITICAL, preset=preset) as mesh:
        settled(mesh, 40)
        anchor = chain_of(mesh, 4).anchor._replace(hash=bytes(16))
        join(mesh, anchor)
        mesh.run(2.5)
        assert (awaits(mesh), value(mesh, NEWCOMER, "tasks/1")) == (anchor.index, None)
        assert len(faults(mesh)) == 1
        assert "not the one that this agent's token names" in faults(mesh)[0]
        for n in range(40):
            wait(mesh, 4, put(mesh, 4, "tasks/later", n))
        join(mesh, chain_of(mesh, 4).anchor._replace(index=anchor.index, config_hash=bytes(16)))
        mesh.run(2.5)
        assert value(mesh, NEWCOMER, "tasks/1") is None, "a snapshot from above: other voters than the token's"
        assert len(faults(mesh)) == 2, "each start says it once"


def test_an_epoch_that_ended_before_the_token_was_made_is_not_begun_and_a_later_one_is() -> None:
    with open_mesh(6, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        former, later = chain_of(mesh, 4).anchor, chain_of(mesh, 4).anchor._replace(epoch=2, index=9)
        join(mesh, later)
        mesh.run(3.0)
        assert mesh.peer(NEWCOMER).quorum.status is None
        for number in (0, 1):
            mesh.crash(number)
        mesh.authority.observe_untrusted(mesh.peer(4).directory.statements())
        statement = mesh.authority.begin_quorum(mesh.memberships[2].identity.public_key)
        join(mesh, former._replace(hash=bytes(16)))
        mesh.peer(4).directory.add_untrusted(statement, mesh.hosts[4].now())
        mesh.hosts[4].wake()
        assert mesh.run_until(lambda: value(mesh, NEWCOMER, "tasks/1") == 1, 10.0), "the authority's word counts for more"
        assert chain_of(mesh, NEWCOMER).genesis.epoch == 2


# ---- voters of former days


def forged(mesh: Mesh, count: int) -> list[tuple[Block, Ack]]:
    """What the first voter, alone at first and retired since, could have agreed on with itself."""
    first, genesis = mesh.peer(0).quorum.keys, chain_of(mesh, 4).genesis
    assert genesis.config.voters == (replica(mesh, 0),)
    found: list[tuple[Block, Ack]] = []
    prev = genesis.hash
    for index in range(1, count + 1):
        header = Header(1, index, 1, prev, bytes(16), 0, 0, 0, bytes(16), replica(mesh, 0))
        block = cut(header, index, (Entry(Kind.NOOP),), first)
        found.append((block, Ack(replica(mesh, 0), index, first.sign(Purpose.ACK, ack_bytes(1, block.hash)))))
        prev = block.hash
    return found


def newcomers(mesh: Mesh, anchor: Anchor | None) -> Chain:
    old = chain_of(mesh, NEWCOMER)
    return Chain(old.genesis, mesh.peer(NEWCOMER).quorum.keys, read_score, 4096, None, anchor)


def tell(chain: Chain, history: Sequence[tuple[Block, Ack]]) -> None:
    for block, ack in history:
        chain.offer_block(block)
        chain.offer_acks_untrusted(block.index, block.hash, (ack,))
    chain.settle()


def test_a_retired_voter_cannot_tell_a_newcomer_another_history() -> None:
    with open_mesh(6, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 10)
        lie, true = forged(mesh, 30), chain_of(mesh, 4)
        deceived = newcomers(mesh, None)
        tell(deceived, lie)
        assert deceived.applied == 30, "without a token's word it is believed: the first voter was alone once"
        wary = newcomers(mesh, true.anchor)
        tell(wary, lie)
        assert (wary.applied, wary.awaits) == (0, true.anchor.index)
        assert len(wary.faults) == 1
        for index in wary.missing(64):
            block = true.log.get(index)
            assert block is not None
            assert wary.offer_block(block)
        wary.settle()
        assert (wary.applied, wary.awaits) == (true.anchor.index, 0)
        assert wary.log.last_hash == true.log.hash_at(true.anchor.index)
        assert wary.machine.digest() == true.machine.digest()


def test_a_token_that_leads_to_another_beginning_ends_in_nothing() -> None:
    with open_mesh(6, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 10)
        true = chain_of(mesh, 4)
        blocks = [block for index in range(1, 6) if (block := true.log.get(index)) is not None]
        other = cut(blocks[0].header._replace(prev=bytes(16)), 1, (Entry(Kind.NOOP),), mesh.peer(0).quorum.keys)
        lost = newcomers(mesh, Anchor(1, 1, other.hash, 0, true.genesis.hash))
        assert lost.offer_block(other)
        lost.settle()
        assert (lost.applied, lost.awaits) == (0, 1)
        assert not lost.offer_block(blocks[0]), "nothing can be right any more"
        assert len(lost.faults) == 1


def test_a_newcomer_that_lacks_a_predicate_stops_before_it_on_the_way_to_the_tokens_block() -> None:
    """It left that block out, went on with the next one, and so the agent ended: a log has no gaps."""
    with open_mesh(6, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 1)
        first, genesis = mesh.peer(0).quorum.keys, chain_of(mesh, 4).genesis
        declared = Entry(Kind.POLICY, replica(mesh, 0), 0, 1, cbor.encode(["predicate", "near", "ab"]))
        blocks, prev = list[Block](), genesis.hash
        for index, entry in enumerate((Entry(Kind.NOOP), declared, Entry(Kind.NOOP)), 1):
            header = Header(1, index, 1, prev, bytes(16), 0, 0, 0, bytes(16), replica(mesh, 0))
            blocks.append(cut(header, index, (entry,), first))
            prev = blocks[-1].hash
        chain = newcomers(mesh, Anchor(1, 3, prev, 0, genesis.hash))
        for block in blocks:
            assert chain.offer_block(block)
        chain.settle()
        chain.settle()
        assert (chain.applied, chain.awaits, chain.lacking) == (1, 3, "near")
        assert len(chain.faults) == 1


def test_what_is_no_anchor_is_refused() -> None:
    good = [1, 9, bytes(16), 4, bytes(16)]
    assert anchor_from_value_untrusted(good) == Anchor(1, 9, bytes(16), 4, bytes(16))
    bad: list[object] = [None, 5, [], good[:4], [*good, 1], [-1, *good[1:]], [True, *good[1:]], [1, 9, b"x", 4, bytes(16)]]
    bad += [[1, 9, bytes(16), 10, bytes(16)], [1, 4, bytes(16), 4, b"1" * 16], [1 << 63, *good[1:]]]
    for each in bad:
        with pytest.raises(Malformed):
            anchor_from_value_untrusted(each)


def test_a_snapshot_agrees_when_the_anchors_voters_are_among_its_steps() -> None:
    anchor = Anchor(1, 9, b"9" * 16, 4, b"4" * 16)
    steps = [(2, b"2" * 16), (4, b"4" * 16)]
    assert agrees(anchor, steps, 20, b"x")
    assert agrees(anchor, [*steps, (12, b"c" * 16)], 20, b"x"), "changes since"
    assert agrees(anchor, steps, 9, b"9" * 16)
    assert not agrees(anchor, steps, 9, b"8" * 16)
    assert not agrees(anchor, steps[:1], 20, b"x")
    assert not agrees(anchor, [*steps, (6, b"6" * 16)], 20, b"x"), "a change before the anchor that it does not know"
    assert not agrees(anchor, [steps[0], (4, b"5" * 16)], 6, b"x")
    assert agrees(anchor, steps[:1], 3, b"x"), "what lies between is still to come, and has to link them"
    assert agrees(anchor._replace(config_index=0), [], 20, b"x")
    assert not agrees(anchor._replace(config_index=0), steps, 20, b"x")
