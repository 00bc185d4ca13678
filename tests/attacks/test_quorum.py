"""Voters that lie, and members that would like to be some. One liar decides nothing, and stops nobody for long.

What no test here can show is in the table: two votes of one voter in one term make two leaders, as in every protocol that
survives crashes only.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from consensus_escalation import certificate, docket, election, raft, replication, verdict
from consensus_escalation.authorship import BY_BLOCK, sign_batch
from consensus_escalation.block import Block, Entry, Header, Kind, cut
from consensus_escalation.certificate import Ack, ack_bytes
from consensus_escalation.chain import Chain
from consensus_escalation.clocks import AHEAD_MICROSECONDS, Clocks, Statement, clock_entry, statement_bytes
from consensus_escalation.command import Command, Verb, command_to_bytes
from consensus_escalation.effects import Received, Submit
from consensus_escalation.evidence import Evidence
from consensus_escalation.messages import AskVote, CastVerdict, PreVote, ReadAt, Rejected, Vote
from consensus_escalation.replication import Replication
from consensus_escalation.types import Position, Purpose, Role
from consensus_escalation.verdict import Verdict
from consensus_escalation.wire import block_to_bytes, message_to_bytes
from mesh.quorum import quorum as quorum_module
from mesh.quorum.messages import Proof, Request, Standing
from mesh.quorum.quorum import Quorum
from mesh.quorum.scores import read_score
from mesh.quorum.spread import Spread
from mesh.testing import Mesh, open_mesh
from mesh.wire import cbor
from mesh.wire.frames import Frame
from tests.attacks.stage import both, say, without
from tests.consensus.cluster import Broken, Cluster, Machine, keys_of, voter
from tests.quorum.helpers import answers, has_voters, leader, put, replica, value

THREAT = "lies to the quorum"
CRITICAL = ("tasks/**",)
MEMBER = 4
"""Does not vote."""
YEAR = 365 * 86_400


def settled(mesh: Mesh) -> int:
    """Returns the host that leads."""
    assert mesh.run_until(lambda: has_voters(mesh, 3) and leader(mesh) is not None, 10.0)
    first = leader(mesh)
    assert first is not None
    return first


def small() -> tuple[Cluster, Machine, Machine, Machine]:
    """(three voters, the leader, an honest one, the liar)."""
    cluster = Cluster(3)
    first = cluster.elect()
    honest, liar = (machine for machine in cluster.machines.values() if machine is not first)
    return cluster, first, honest, liar


def forged(mesh: Mesh, liar: int, text: str) -> Block:
    """The next block as a voter would like it, in the author's name of a healthy agent."""
    quorum = mesh.peer(liar).quorum
    chain = quorum.chain
    assert chain is not None
    body = command_to_bytes(Command(Verb.SET, ("tasks", "1"), cbor.encode(text)), cbor.encode)
    entry = Entry(Kind.COMMAND, replica(mesh, MEMBER), mesh.hosts[liar].now().wall, 5, body)
    place = (1, chain.applied + 1, 1, chain.log.last_hash, bytes(16), chain.log.config_index)
    return cut(Header(*place, 0, 0, bytes(16), replica(mesh, liar)), mesh.hosts[liar].now().wall, (entry,), quorum.keys)


# ---- votes and terms


@both
def test_a_member_that_does_not_vote_deposes_nobody(defended: bool) -> None:
    with without(defended, Quorum, "_may_speak", lambda *_: True), open_mesh(5, voters=3, critical=CRITICAL) as mesh:
        first = settled(mesh)
        leading = mesh.peer(first).quorum.raft
        assert leading is not None
        before = leading.term
        say(mesh, MEMBER, first, Frame.RAFT, message_to_bytes(1, Rejected(before + 5, 0, 0, 0), mesh.peer(MEMBER).quorum.keys))
        mesh.run(0.01)
        assert (leading.term == before) == defended


@both
def test_only_voters_votes_count_and_each_once(defended: bool) -> None:
    def anybody(config: Any, yes: Any) -> bool:
        return len(yes) > len(config.voters) // 2

    with without(defended, election, "has_quorum", anybody):
        cluster, _, lonely, _ = small()
        cluster.cut_off(int.from_bytes(lonely.me, "big"))
        cluster.advance(0.5)
        assert lonely.raft is not None
        for name in (lonely.me, voter(8), voter(9), voter(9)):
            lonely.step(Received(name, PreVote(lonely.raft.term + 1, True)))
        for name in (lonely.me, voter(8), voter(9), voter(9)):
            lonely.step(Received(name, Vote(lonely.raft.term, True)))
        assert (lonely.raft.role is Role.LEADER) == (not defended)


@both
def test_the_last_term_is_out_of_reach(defended: bool) -> None:
    """Undefended: nobody can be elected any more, for there is no next term."""
    with without(defended, raft, "TERM_JUMP_MAX", 1 << 64):
        _, first, honest, liar = small()
        end = (1 << 64) - 1
        for machine in (first, honest):
            machine.step(Received(liar.me, AskVote(end, Position(end, end))))
            machine.step(Received(liar.me, Rejected(end, 0, 0, 0)))
            assert machine.raft is not None
            assert (machine.raft.term == end) == (not defended)


# ---- verdicts


@both
def test_an_endorsement_in_anothers_name(defended: bool) -> None:
    cluster, first, honest, liar = small()
    cluster.judge = lambda machine, _proposal: "" if machine is liar else "no"
    cluster.lost = lambda sender, to, message: honest.me in (sender, to) and isinstance(message, CastVerdict)  # it comes too late
    entry = Entry(Kind.COMMAND, b"client", 1_700_000_000_000_000, 1, b"danger: open the valve")
    with without(defended, docket, "is_genuine", lambda *_: True), without(defended, verdict, "is_genuine", lambda *_: True):
        first.step(Submit(entry))
        assert first.raft is not None
        (proposal,) = first.raft._docket._cases
        yes = Verdict(proposal, first.raft.term, honest.me, "", keys_of(liar.me).sign(Purpose.VERDICT, b"yes"))
        first.step(Received(liar.me, CastVerdict(first.raft.term, yes, None)))
        cluster.advance(1.0)
        assert cluster.texts(first) == ([] if defended else ["danger: open the valve"])


@both
def test_a_leader_leaves_the_endorsements_out(defended: bool) -> None:
    entry = Entry(Kind.COMMAND, b"client", 1_700_000_000_000_000, 1, b"danger: open the valve")
    with without(defended, Evidence, "holds", lambda *_: True):
        cluster, first, honest, _ = small()
        assert first.raft is not None
        first.raft._append((entry,))
        first.raft._replication.broadcast()
        with nullcontext() if defended else pytest.raises(Broken, match="not endorsed"):
            cluster.advance(2.0)
        if defended:
            assert not cluster.texts(honest)
            assert cluster.leader() not in (None, first)


# ---- clocks


@both
def test_a_leader_claims_that_it_is_next_year(defended: bool) -> None:
    """Undefended: log time is a year ahead for ever, and what was asked for before is too old to be known."""
    with without(defended, Replication, "is_of_the_future", lambda *_: False):
        cluster, first, honest, _ = small()
        assert first.raft is not None
        time = cluster.now(first).wall + int(YEAR * 1e6)
        with without(False, raft, "stamp", lambda *_: time):
            first.raft._append((Entry(Kind.NOOP),))
        first.raft._replication.broadcast()
        cluster.advance(2.0)
        assert honest.raft is not None
        assert (honest.raft.ledger.time >= time) == (not defended)
        assert (cluster.leader() is first) == (not defended)


@both
def test_a_leader_attests_next_year_by_itself(defended: bool) -> None:
    with without(defended, replication, "is_attested_untrusted", lambda *_: True):
        cluster, first, honest, _ = small()
        assert first.raft is not None
        time = cluster.now(first).wall + int(YEAR * 1e6)
        first.raft._append((clock_entry(time, {}, keys_of(first.me)),))
        first.raft._replication.broadcast()
        cluster.advance(2.0)
        assert honest.raft is not None
        assert (honest.raft.ledger.attested == time) == (not defended)


def says_what_the_log_says(clocks: Clocks, term: int, base: int) -> Statement:
    core = clocks._core
    time = max(core.now.wall, core.ledger.time)
    return Statement(time, core.keys.sign(Purpose.CLOCK, statement_bytes(core.epoch, term, base, time)))


@both
def test_a_leader_moves_log_time_two_hours_and_two_hours_more(defended: bool) -> None:
    """A voter took a time that a majority had stored for one that had come, so each block made the next one believable: twelve of
    them moved log time by a day."""
    with without(defended, Clocks, "_sign", says_what_the_log_says):
        cluster, first, honest, _ = small()
        cluster.skews[first.me] = YEAR
        cluster.advance(1.0)
        cluster.submit(first, "two hours ahead")
        cluster.advance(50.0)
        assert honest.raft is not None
        ahead = honest.raft.ledger.time - cluster.now(honest).wall
        assert (ahead > 4 * AHEAD_MICROSECONDS) == (not defended)


# ---- blocks and certificates


@both
def test_a_certificate_of_one_voter(defended: bool) -> None:
    with open_mesh(5, voters=3, critical=CRITICAL) as mesh:
        liar = (settled(mesh) + 1) % 3
        keys, block = mesh.peer(liar).quorum.keys, forged(mesh, liar, "mine")
        ack = Ack(replica(mesh, liar), block.index, keys.sign(Purpose.ACK, ack_bytes(1, block.hash)))
        with without(defended, certificate, "has_quorum", lambda _config, yes: bool(yes)):
            say(mesh, liar, MEMBER, Frame.BLOCK, block_to_bytes(block, keys))
            say(mesh, liar, MEMBER, Frame.PROOF, Proof(1, block.index, block.hash, (ack,)).encode())
            mesh.run(0.5)
        assert value(mesh, MEMBER, "tasks/1") == (None if defended else "mine")


@both
def test_a_block_that_no_voter_signed_takes_no_place(defended: bool) -> None:
    with open_mesh(5, voters=3, critical=CRITICAL) as mesh, without(defended, Spread, "_is_genuine", lambda *_: True):
        settled(mesh)
        block, chain = forged(mesh, 3, "mine"), mesh.peer(MEMBER).quorum.chain
        assert chain is not None
        say(mesh, 3, MEMBER, Frame.BLOCK, block_to_bytes(block, mesh.peer(3).quorum.keys))
        mesh.run(0.01)
        assert chain.has(block.index) == (not defended)


@both
def test_a_retired_voter_tells_a_newcomer_another_history(defended: bool) -> None:
    """The first voter was alone once: whoever has its key later can certify anything from the genesis on."""
    with open_mesh(5, voters=3, critical=CRITICAL) as mesh:
        settled(mesh)
        put(mesh, MEMBER, "tasks/1", "true")
        assert mesh.run_until(lambda: value(mesh, MEMBER, "tasks/1") == "true", 5.0)
        true, keys = mesh.peer(MEMBER).quorum.chain, mesh.peer(0).quorum.keys
        assert true is not None
        command = Command(Verb.SET, ("tasks", "1"), cbor.encode("a lie"))
        entry = Entry(Kind.COMMAND, replica(mesh, 0), 1, 1, command_to_bytes(command, cbor.encode))
        header = Header(1, 1, 1, true.genesis.hash, bytes(16), 0, 0, 0, bytes(16), replica(mesh, 0))
        block = cut(header, 1, sign_batch((entry,), keys), keys)
        ack = Ack(replica(mesh, 0), 1, keys.sign(Purpose.ACK, ack_bytes(1, block.hash)))
        anchor = true.anchor
        with without(defended, Chain, "awaits", property(lambda _self: 0)):
            newcomer = Chain(true.genesis, mesh.peer(3).quorum.keys, read_score, 4096, None, anchor)
            newcomer.offer_block(block)
            newcomer.offer_acks_untrusted(1, block.hash, (ack,))
            newcomer.settle()
            cell = newcomer.machine.cell(("tasks", "1"))
            assert (cell is None) == defended
            for _ in range(2):  # the lie shows when the others are here
                for index in newcomer.missing(64):
                    newcomer.offer_block(true.log.get(index))  # type: ignore[arg-type]
                newcomer.settle()
        cell = newcomer.machine.cell(("tasks", "1"))
        assert cell is not None
        assert cbor.decode_untrusted(cell.value) == ("true" if defended else "a lie")


# ---- words


@both
@pytest.mark.parametrize("signature", [bytes(64), BY_BLOCK])
def test_an_entry_in_anothers_name(defended: bool, signature: bytes) -> None:
    """Or in the leader's, which signs its own with the block."""
    with (
        without(defended, quorum_module, "is_signed_untrusted", lambda *_: True),
        open_mesh(5, voters=3, critical=CRITICAL) as mesh,
    ):
        first = settled(mesh)
        body = command_to_bytes(Command(Verb.SET, ("tasks", "1"), cbor.encode("mine")), cbor.encode)
        author = replica(mesh, first if signature == BY_BLOCK else 3)
        entry = Entry(Kind.COMMAND, author, mesh.hosts[0].now().wall, 5, body, signature)
        say(mesh, MEMBER, first, Frame.REQUEST, Request(1, True, (entry,)).encode())
        mesh.run(0.5)
        assert value(mesh, 0, "tasks/1") == (None if defended else "mine")


@both
def test_an_entry_outside_its_authors_patterns(defended: bool) -> None:
    """By a program that does not ask its own leave."""
    with (
        without(defended, quorum_module, "is_permitted", lambda *_: True),
        open_mesh(5, voters=3, critical=CRITICAL, may_write=("robots/**",)) as mesh,
    ):
        settled(mesh)
        key = put(mesh, MEMBER, "tasks/1", "mine")
        assert mesh.run_until(lambda: key in answers(mesh, MEMBER), 2.0)
        assert value(mesh, 0, "tasks/1") == (None if defended else "mine")


@both
@pytest.mark.parametrize("what", ["leader", "read"])
def test_a_member_speaks_as_the_leader(defended: bool, what: str) -> None:
    """Undefended: entries and questions go to it, and it says up to where a linearizable read must have applied."""
    with without(defended, Quorum, "_may_speak", lambda *_: True), open_mesh(5, voters=3, critical=CRITICAL) as mesh:
        settled(mesh)
        victim = mesh.peer(3).quorum
        if what == "leader":
            lie = Standing(1, 0, 0, bytes(4), 0, 1 << 40, replica(mesh, MEMBER), False)
            say(mesh, MEMBER, 3, Frame.STANDING, lie.encode())
            mesh.run(0.01)
            assert (victim.leader == replica(mesh, MEMBER)) == (not defended)
        else:
            mesh.cut([3], [0, 1, 2])
            number = victim.questions.put(mesh.hosts[3].now())
            say(mesh, MEMBER, 3, Frame.RAFT, message_to_bytes(1, ReadAt(1, number, 0), victim.keys))
            mesh.run(0.1)
            assert bool(victim.questions.take(1 << 60)) == (not defended)
