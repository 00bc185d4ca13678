"""Critical writes through a whole mesh on virtual time: who votes, who hears, and what faults may cost."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from consensus_escalation.authorship import sign_batch
from consensus_escalation.block import Entry, Header, Kind, cut
from consensus_escalation.certificate import Ack
from consensus_escalation.command import Command, Thought, Verb, command_to_bytes
from consensus_escalation.machine import Outcome, Status
from consensus_escalation.messages import Append, AskPreVote, AskVote, ReadAt, Vote
from consensus_escalation.sessions import NAMED
from consensus_escalation.types import Position
from consensus_escalation.wire import block_to_bytes, message_to_bytes
from crdt.ids import ReplicaId
from mesh.effects import Now
from mesh.errors import NotPermitted, Refused
from mesh.events import QuorumLost, QuorumRegained
from mesh.presets import LAN
from mesh.quorum.courier import NotTaken
from mesh.quorum.desk import is_in_log
from mesh.quorum.messages import Piece, Request, Standing, Want
from mesh.quorum.spread import Spread
from mesh.testing import Mesh, open_mesh
from mesh.testing.network import Link
from mesh.wire import cbor
from mesh.wire.frames import Frame, Lane
from tests.quorum.helpers import DONE, answers, ask, has_voters, leader, prove, put, replica, shown_with_proof, value, wait

CRITICAL = ("tasks/**",)


def settled(mesh: Mesh, voters: int) -> Mesh:
    assert mesh.run_until(lambda: has_voters(mesh, voters) and leader(mesh) is not None, 10.0)
    return mesh


def test_the_first_enrolled_voter_is_a_quorum_of_one_at_once() -> None:
    with open_mesh(1, voters=1, critical=CRITICAL, settle=0.5) as mesh:
        outcome = wait(mesh, 0, put(mesh, 0, "tasks/1", "mine"), limit=0.1)
        assert outcome.status is DONE
        assert value(mesh, 0, "tasks/1") == "mine"
        prove(mesh, 0, outcome.index)


def test_a_mesh_without_voters_has_no_quorum() -> None:
    with open_mesh(2, settle=1.0) as mesh:
        assert mesh.peer(0).quorum.status is None


@pytest.mark.parametrize(("enrolled", "wanted"), [(2, 1), (3, 3), (4, 3), (6, 5)])
def test_the_quorum_grows_by_itself_and_rests_at_odd_sizes(enrolled: int, wanted: int) -> None:
    with open_mesh(7, voters=enrolled, critical=CRITICAL, settle=3.0) as mesh:
        settled(mesh, wanted)


def test_a_write_on_a_non_voter_shows_with_proof_on_all() -> None:
    with open_mesh(8, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        key = put(mesh, 6, "tasks/1", "r7")
        start = mesh.now
        outcome = wait(mesh, 6, key)
        assert outcome.status is DONE
        assert mesh.now - start < 0.02  # five one-way trips of 0.5 ms and a commit of 1 ms
        assert mesh.run_until(lambda: shown_with_proof(mesh, "tasks/1", "r7"), 0.5, every=0.001)
        for number in range(8):
            prove(mesh, number, outcome.index)


def test_an_ordinary_write_under_a_critical_prefix_is_an_error_at_its_author() -> None:
    with open_mesh(2, voters=1, critical=CRITICAL, settle=1.0) as mesh, pytest.raises(NotPermitted, match="critical"):
        mesh.node(1).register("tasks/1").set("mine")


def test_a_dead_leader_costs_less_than_a_second_and_no_write() -> None:
    with open_mesh(8, voters=5, critical=CRITICAL) as mesh:
        settled(mesh, 5)
        first = leader(mesh)
        assert first is not None
        keys = [put(mesh, 7, f"tasks/{n}", n) for n in range(20)]
        mesh.run(0.0005)
        mesh.crash(first)
        start = mesh.now
        for key in keys:
            assert wait(mesh, 7, key).status is DONE
        assert mesh.now - start < 1.0
        assert leader(mesh) not in (None, first)
        assert mesh.run_until(lambda: shown_with_proof(mesh, "tasks/19", 19), 1.0)
        mesh.restart(first)
        assert mesh.run_until(lambda: shown_with_proof(mesh, "tasks/19", 19), 3.0)
        assert [value(mesh, first, f"tasks/{n}") for n in range(20)] == list(range(20))


def test_the_smaller_side_of_a_cut_waits_and_then_sees_all() -> None:
    with open_mesh(8, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        first = leader(mesh)
        assert first is not None
        alone = [first, 6, 7]
        mesh.cut(alone)
        late = put(mesh, 7, "tasks/late", 1)
        others = [number for number in range(8) if number not in alone]
        mesh.run(1.0)
        assert wait(mesh, others[-1], put(mesh, others[-1], "tasks/1", "other side")).status is DONE
        mesh.run(3.0)
        assert value(mesh, 7, "tasks/1") is None
        assert value(mesh, 7, "tasks/late") is None
        assert any(isinstance(event, QuorumLost) for event in mesh.node(first).told)
        mesh.heal()
        assert wait(mesh, 7, late, limit=10.0).status is DONE
        assert mesh.run_until(lambda: shown_with_proof(mesh, "tasks/1", "other side"), 5.0)
        assert any(isinstance(event, QuorumRegained) for event in mesh.node(first).told)


def test_everything_is_there_after_all_were_killed() -> None:
    with open_mesh(6, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        index = 0
        for n in range(10):
            index = wait(mesh, n % 6, put(mesh, n % 6, f"tasks/{n}", n)).index
        for number in range(6):
            mesh.crash(number)
        for number in range(6):
            mesh.restart(number)
        assert mesh.run_until(lambda: shown_with_proof(mesh, "tasks/9", 9), 10.0)
        for number in range(6):
            prove(mesh, number, index)
        assert wait(mesh, 5, put(mesh, 5, "tasks/9", "again")).status is DONE


def test_a_newcomer_gets_all_from_anybody() -> None:
    with open_mesh(6, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        mesh.crash(5)
        mesh.hosts[5].disk.lose()  # type: ignore[union-attr]
        mesh.hosts[5].journal.lose()  # type: ignore[union-attr]
        for n in range(200):
            wait(mesh, 4, put(mesh, 4, f"tasks/{n}", n))
        mesh.cut([0, 1, 2], [5])  # the voters cannot help it
        mesh.restart(5)
        assert mesh.run_until(lambda: shown_with_proof(mesh, "tasks/199", 199), 10.0)


@pytest.mark.parametrize("seed", range(3))
def test_loss_costs_time_only(seed: int) -> None:
    with open_mesh(8, seed=seed, voters=3, critical=CRITICAL, link=Link(loss=0.1, duplicate=0.02, reorder=0.05)) as mesh:
        assert mesh.run_until(lambda: has_voters(mesh, 3) and leader(mesh) is not None, 30.0)
        for n in range(30):
            assert wait(mesh, n % 8, put(mesh, n % 8, f"tasks/{n}", n), limit=10.0).status is DONE
        assert mesh.run_until(lambda: all(shown_with_proof(mesh, f"tasks/{n}", n) for n in range(30)), 10.0)
        digests = {mesh.peer(number).quorum.chain.machine.digest() for number in range(8)}  # type: ignore[union-attr]
        assert len(digests) == 1


def test_the_log_is_cut_and_who_was_away_jumps() -> None:
    preset = replace(LAN, quorum=replace(LAN.quorum, snapshot_blocks=50))
    with open_mesh(6, voters=3, critical=CRITICAL, preset=preset) as mesh:
        settled(mesh, 3)
        voter = next(number for number in range(3) if number != leader(mesh))
        for number in (voter, 5):
            mesh.crash(number)
        for n in range(220):
            wait(mesh, 4, put(mesh, 4, f"tasks/{n % 7}", n))
        chain = mesh.peer(4).quorum.chain
        assert chain is not None
        assert chain.log.base.index >= 150
        for number in (voter, 5):
            mesh.restart(number)
        assert mesh.run_until(lambda: shown_with_proof(mesh, "tasks/2", 219), 10.0)
        for number in range(6):
            mesh.restart(number)
        assert mesh.run_until(lambda: shown_with_proof(mesh, "tasks/2", 219), 10.0)
        assert wait(mesh, 5, put(mesh, 5, "tasks/0", "on")).status is DONE


def test_a_voter_that_is_dead_for_long_is_replaced() -> None:
    preset = replace(LAN, quorum=replace(LAN.quorum, replace_seconds=5.0))
    with open_mesh(5, voters=4, critical=CRITICAL, preset=preset) as mesh:
        settled(mesh, 3)
        chain = mesh.peer(4).quorum.chain
        assert chain is not None
        votes = [number for number in range(4) if replica(mesh, number) in chain.config.voters]
        gone = next(number for number in votes if number != leader(mesh))
        (spare,) = set(range(4)) - set(votes)
        mesh.crash(gone)
        mesh.run(4.0)
        assert replica(mesh, gone) in chain.config.voters
        assert mesh.run_until(lambda: replica(mesh, spare) in chain.config.voters and not chain.config.is_joint, 10.0)
        assert replica(mesh, gone) not in chain.config.voters
        mesh.restart(gone)
        mesh.run(3.0)
        assert replica(mesh, gone) not in chain.config.voters
        assert wait(mesh, gone, put(mesh, gone, "tasks/1", 1)).status is DONE


def test_thirty_two_agents_see_a_write_with_proof_within_half_a_second() -> None:
    with open_mesh(32, voters=5, critical=CRITICAL, settle=5.0, link=Link(loss=0.02)) as mesh:
        settled(mesh, 5)
        mesh.run(1.0)
        for number in range(8):
            start = mesh.now
            put(mesh, 31 - number, f"tasks/{number}", number)
            assert mesh.run_until(partial(shown_with_proof, mesh, f"tasks/{number}", number), 2.0, every=0.005)
            assert mesh.now - start < 0.5


def test_a_member_that_does_not_vote_disturbs_no_election() -> None:
    """It forges what a leader of a later term would say, under its own name."""
    with open_mesh(5, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        before = [mesh.peer(number).quorum.status for number in range(3)]
        last = Position(99, 99)
        for message in (Append(99, 0, 0, bytes(16), (), 0, 0), AskVote(99, last), AskPreVote(99, last), Vote(99, True)):
            for number in range(3):
                raw = message_to_bytes(1, message, mesh.peer(4).quorum.keys)
                mesh.peer(4).send(replica(mesh, number), Lane.CRITICAL, Frame.RAFT, raw)
        mesh.hosts[4].wake()
        mesh.run(0.1)
        after = [mesh.peer(number).quorum.status for number in range(3)]
        assert [each.term for each in after if each] == [each.term for each in before if each]
        assert any("no voter" in reason for reason in mesh.peer(0).drops)


def test_a_dangerous_write_that_is_in_the_log_is_not_proposed_again() -> None:
    """Its author sends it again while it commits. A leader that had not proposed it itself did so once more, and where that was
    refused, the author heard that what had been done was definitely not done."""
    with open_mesh(4, voters=3, critical=CRITICAL) as mesh:
        assert mesh.run_until(lambda: has_voters(mesh, 3) and leader(mesh) is not None, 10.0)
        first = leader(mesh)
        assert first is not None
        command = Command(Verb.SET, ("tasks", "1"), cbor.encode(1), thought=Thought(is_dangerous=True))
        key = ask(mesh, 3, command)
        quorum = mesh.peer(3).quorum
        assert quorum.chain is not None
        entry = Entry(Kind.COMMAND, quorum.me, key.since, key.number, command_to_bytes(command, cbor.encode))
        unknown = entry._replace(number=key.number + 1)
        assert wait(mesh, 3, key).status is DONE
        mesh.crash(first)
        assert mesh.run_until(lambda: leader(mesh) not in (None, first), 5.0)
        mesh.run(0.5)
        second = leader(mesh)
        assert second is not None
        leading = mesh.peer(second).quorum
        assert leading.chain is not None
        assert leading.raft is not None
        end = leading.raft.log.last_index
        assert is_in_log(entry, leading.chain)
        assert not is_in_log(unknown, leading.chain)
        quorum.courier.send(leading.me, sign_batch((entry,), quorum.keys))
        mesh.run(1.0)
        assert leading.raft.log.last_index == end, "nothing was endorsed and appended a second time"


def big_bundle(mesh: Mesh) -> None:
    """Everybody has a snapshot of about 70 kB: three answers' worth."""
    settled(mesh, 3)
    keys = [put(mesh, 4, f"tasks/{n}", "x" * 470) for n in range(140)]
    for key in keys:
        assert wait(mesh, 4, key).status is DONE
    for n in range(45):  # blocks that name the digest
        assert wait(mesh, 4, put(mesh, 4, "tasks/0", n)).status is DONE


def test_a_proof_in_the_middle_of_a_burst_needs_nothing_that_comes_later() -> None:
    """The leader stored all of it at once and acknowledged the last block only: until others had that too, no proof was of use to
    them, and each tried all of them again in every turn."""
    with open_mesh(5, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        quorum, first = mesh.peer(4).quorum, leader(mesh)
        assert first is not None
        leading, chain = mesh.peer(first).quorum.raft, quorum.chain
        assert leading is not None
        assert chain is not None
        for n in range(500):
            put(mesh, 4, f"tasks/{n}", "x" * 400)
        assert mesh.run_until(lambda: leading.commit >= 50, 2.0, every=0.001)
        reached, end = leading.commit, leading.log.last_index
        assert end > reached + 100, "a burst"
        assert mesh.run_until(lambda: chain.proven > reached - 10, 0.1, every=0.001)
        assert chain.proven < end, "in the middle of it"


def test_who_jumped_over_its_own_writes_hears_of_them() -> None:
    """A burst longer than the window of blocks that are kept, from an agent that falls behind it: nothing named the newest state,
    so nobody could help it; and once it had jumped, what it had asked for was sent, and appended, again and again."""
    preset = replace(LAN, quorum=replace(LAN.quorum, snapshot_blocks=40))
    with open_mesh(6, voters=3, critical=CRITICAL, preset=preset) as mesh:
        settled(mesh, 3)
        keys = [put(mesh, 4, f"tasks/{n}", "x" * 470) for n in range(140)]
        assert mesh.run_until(lambda: len(answers(mesh, 4)) == len(keys), 5.0)
        chain = mesh.peer(4).quorum.chain
        assert chain is not None
        assert chain.jumps, "it did fall behind"
        mesh.run(2.0)
        assert chain.applied < 2 * len(keys), "no block again and again"


@pytest.mark.interpreted
def test_a_bundle_comes_from_one_agent() -> None:
    """Bundles of one snapshot differ from agent to agent, by the certificate. Each answer was asked of another one by lot: with
    many to ask, a bundle of many pieces never became whole."""
    preset = replace(LAN, quorum=replace(LAN.quorum, snapshot_blocks=40))
    with open_mesh(6, voters=3, critical=CRITICAL, preset=preset) as mesh:
        big_bundle(mesh)
        mesh.restart(5, "lost")
        asked: list[tuple[ReplicaId, int]] = []
        quorum = mesh.peer(5).quorum
        send = quorum._spread._port.send

        def heard(peer: ReplicaId, lane: Lane, kind: Frame, payload: bytes) -> None:
            if kind is Frame.WANT_BLOCKS:
                asked.append((peer, Want.decode_untrusted(payload).offset))
            send(peer, lane, kind, payload)

        quorum._spread._port.send = heard  # type: ignore[method-assign]
        assert mesh.run_until(lambda: value(mesh, 5, "tasks/0") == 44, 10.0)
        assert quorum.chain is not None
        assert quorum.chain.jumps >= 1
        pieces = [(peer, offset) for peer, offset in asked if offset]
        assert len(pieces) >= 2
        assert len({peer for peer, _ in pieces}) == 1, pieces


def test_pieces_that_nobody_asked_for_are_not_kept() -> None:
    """Any member could fill 128 MB of everybody's memory with a bundle that proves nothing."""
    with open_mesh(4, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        quorum, now = mesh.peer(0).quorum, mesh.hosts[0].now()
        for number in range(100):
            piece = Piece(1, 1 << 20, 1 << 24, number * 1000, bytes(1000))
            quorum.handle_untrusted(replica(mesh, 3), Frame.BUNDLE, piece.encode(), now)
        assert not quorum._spread._incoming[2]


def test_a_lie_about_the_leader_is_over_with_the_next_block() -> None:
    """A term that nobody has reached was believed for ever, and told on: every entry went to the liar first."""
    with open_mesh(6, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        liar, quorum = replica(mesh, 5), mesh.peer(4).quorum
        first = leader(mesh)
        assert first is not None
        another = next(voter for voter in mesh.peer(4).quorum.chain.config.voters if voter != replica(mesh, first))  # type: ignore[union-attr]
        for named in (liar, another):
            lie = Standing(1, 0, 0, bytes(4), 0, 1 << 60, named, False)
            quorum.handle_untrusted(liar, Frame.STANDING, lie.encode(), mesh.hosts[4].now())
            assert (quorum.leader == named) == (named == another)  # who does not vote cannot lead
        number = quorum.questions.put(mesh.hosts[4].now())
        assert mesh.run_until(lambda: number in dict(quorum.questions.take(1 << 60)), 1.0, every=0.001)
        assert quorum.leader == another  # it was answered all the same
        assert wait(mesh, 3, put(mesh, 3, "tasks/1", 1)).status is DONE
        mesh.run(0.5)
        assert quorum.leader == replica(mesh, first)
        assert quorum.status is not None
        assert quorum.status.term < 1 << 60


def test_an_answer_to_a_read_has_a_turn_of_its_own() -> None:
    """A read of who does not vote lay there until the next probe: Raft's answers are handled without a turn, and only at a turn
    whoever waits for this one is woken."""
    with open_mesh(5, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        quorum, turns = mesh.peer(4).quorum, list[float]()
        assert quorum.raft is None
        mesh.world.observers.append(lambda host, _events, _changes: turns.append(mesh.world.time) if host.number == 4 else None)
        for _ in range(5):
            mesh.run(0.137)
            number = quorum.questions.put(mesh.hosts[4].now())
            mesh.hosts[4].wake()
            assert mesh.world.run_until(lambda: number in dict(quorum.questions.take(1 << 60)), 1.0)  # noqa: B023  # called in here
            assert turns[-1] == mesh.world.time


def test_of_a_long_list_the_end_is_refused_as_the_beginning_is() -> None:
    """The leader answers for all that came in a row, and the author took its word for the first 256 only. The rest waited for a
    second copy, seconds later where the leader itself had asked, and then nobody could say any more that it was not done."""
    with open_mesh(5, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        first = leader(mesh)
        assert first is not None
        chain, courier = mesh.peer(first).quorum.chain, mesh.peer(first).quorum.courier
        assert chain is not None
        body = command_to_bytes(Command(Verb.SET, ("tasks", "1"), cbor.encode(1)), cbor.encode)
        keys = courier.want_again(chain, [body] * 300, (chain.ledger.time + (1 << 50), NAMED))
        mesh.hosts[first].wake()
        mesh.run(1.0)
        assert {type(answers(mesh, first).get(key)) for key in keys} == {NotTaken}


def test_a_voter_that_is_none_any_more_asks_who_leads_now() -> None:
    """A learner that was not taken kept its Raft, and with it the leader that it had heard: its reads went there for ever, though
    another one led since."""
    with open_mesh(5, voters=4, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        first = leader(mesh)
        voters = mesh.peer(0).quorum.chain.config.voters  # type: ignore[union-attr]
        outside = next(number for number in range(4) if replica(mesh, number) not in voters)
        quorum = mesh.peer(outside).quorum
        assert first is not None
        leading = mesh.peer(first).quorum.raft
        assert leading is not None
        hello = Append(leading.term, 0, 0, quorum.chain.genesis.hash, (), 0, 0)  # type: ignore[union-attr]
        raw = message_to_bytes(1, hello, quorum.keys)
        quorum.handle_untrusted(replica(mesh, first), Frame.RAFT, raw, mesh.hosts[outside].now())
        assert quorum.raft is not None
        assert quorum.raft.leader == replica(mesh, first)
        mesh.crash(first)
        assert mesh.run_until(lambda: leader(mesh) is not None, 3.0)
        mesh.restart(first)
        mesh.run(1.0)
        number = quorum.questions.put(mesh.hosts[outside].now())
        assert mesh.run_until(lambda: number in dict(quorum.questions.take(1 << 60)), 1.0, every=0.001)


def test_only_voters_say_up_to_where_one_must_have_read() -> None:
    """Any member could answer, with an index of long ago: a linearizable read saw what had been replaced."""
    with open_mesh(5, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        quorum = mesh.peer(4).quorum
        number = quorum.questions.put(mesh.hosts[4].now())
        raw = message_to_bytes(1, ReadAt(1, number, 0), quorum.keys)
        with pytest.raises(Refused):
            quorum.handle_untrusted(replica(mesh, 3), Frame.RAFT, raw, mesh.hosts[4].now())
        assert not quorum.questions.take(1 << 60)


def test_a_refusal_is_definite_only_when_no_other_leader_may_have_taken_a_copy() -> None:
    """A leader whose clock was wrong refused a copy as too old, and its author was told that it is not done; a leader before had
    taken another copy, which was committed."""
    with open_mesh(4, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        courier, now = mesh.peer(3).quorum.courier, mesh.hosts[3].now
        sent: list[Entry] = []
        courier.send = lambda _to, batch: sent.append(batch[0])
        keys = [put(mesh, 3, f"tasks/{n}", n) for n in range(3)]
        mesh.run(0.001)
        courier.refused(keys[:1], "too old", now())
        assert answers(mesh, 3)[keys[0]] == NotTaken(keys[0], "too old")  # the only copy
        mesh.run(0.25)
        assert sum(entry.number == keys[1].number for entry in sent) == 2
        courier.refused(keys[1:2], "too old", now())
        unknown = answers(mesh, 3)[keys[1]]
        assert isinstance(unknown, Outcome)
        assert unknown.status is Status.UNKNOWN
        courier.refused(keys[2:], "not the leader", now())
        courier.refused(keys[2:], "too old", now())
        assert answers(mesh, 3)[keys[2]] == NotTaken(keys[2], "too old")  # both of them


def test_who_gave_up_and_asks_again_remembers_the_copies_under_way() -> None:
    with open_mesh(4, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        courier, chain = mesh.peer(3).quorum.courier, mesh.peer(3).quorum.chain
        assert chain is not None
        courier.send = lambda _to, _batch: None
        key = put(mesh, 3, "tasks/1", 1)
        mesh.run(0.001)
        courier.forget(key)
        body = command_to_bytes(Command(Verb.SET, ("tasks", "1"), cbor.encode(1)), cbor.encode)
        assert courier.want(chain, body, key=(key.since, key.number)) == key
        mesh.hosts[3].wake()
        mesh.run(0.001)
        courier.refused([key], "too old", mesh.hosts[3].now())
        unknown = answers(mesh, 3)[key]
        assert isinstance(unknown, Outcome)
        assert unknown.status is Status.UNKNOWN


def test_a_second_copy_is_not_put_into_the_log() -> None:
    """Every copy that came before the first one was committed took its room in the log."""
    with open_mesh(4, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        first = leader(mesh)
        assert first is not None
        raft = mesh.peer(first).quorum.raft
        assert raft is not None
        author, now = mesh.memberships[3], mesh.hosts[first].now()
        body = command_to_bytes(Command(Verb.SET, ("tasks", "1"), cbor.encode(1)), cbor.encode)
        batch = sign_batch([Entry(Kind.COMMAND, author.replica_id, now.wall, 77, body)], mesh.peer(3).quorum.keys)
        request = Request(1, False, batch).encode()
        before = raft.log.last_index
        for _ in range(3):
            mesh.peer(first).quorum.handle_untrusted(author.replica_id, Frame.REQUEST, request, now)
        mesh.run(0.5)
        entries = [entry for block in raft.log.between(before + 1, raft.log.last_index) for entry in block.entries]
        assert [entry.number for entry in entries if entry.author == author.replica_id] == [77]
        both = sign_batch(
            [batch[0]._replace(signature=b""), batch[0]._replace(number=78, signature=b"")], mesh.peer(3).quorum.keys
        )
        mesh.peer(first).quorum.handle_untrusted(author.replica_id, Frame.REQUEST, Request(1, False, both).encode(), now)
        mesh.run(0.5)
        entries = [entry for block in raft.log.between(before + 1, raft.log.last_index) for entry in block.entries]
        assert 78 in [entry.number for entry in entries], "another batch that begins alike is another batch"


def test_a_block_that_no_voter_signed_is_neither_kept_nor_passed_on() -> None:
    """Whatever was called a block was kept for its index, where the true one found no room, and went on to everybody below."""
    with open_mesh(5, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        quorum, now = mesh.peer(4).quorum, mesh.hosts[4].now()
        chain, liar = quorum.chain, mesh.peer(3).quorum.keys
        assert chain is not None
        first = leader(mesh)
        assert first is not None
        for named in (replica(mesh, 3), replica(mesh, first)):
            index = chain.applied + 1
            header = Header(1, index, 1, chain.log.last_hash, bytes(16), chain.log.config_index, 0, 0, bytes(16), named)
            forged = cut(header, now.wall, (Entry(Kind.NOOP),), liar)
            with pytest.raises(Refused, match="no voter signed"):
                quorum.handle_untrusted(replica(mesh, 3), Frame.BLOCK, block_to_bytes(forged, liar), now)
            assert not chain.has(index)


@pytest.mark.interpreted
def test_who_says_that_it_is_far_ahead_is_asked_a_few_times_only() -> None:
    """One false word made this agent ask for 64 blocks every 50 ms, for ever."""
    with open_mesh(5, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        mesh.run(1.0)
        quorum, asked = mesh.peer(4).quorum, 0
        want = Spread.want_untrusted

        def counted(self: Spread, peer: ReplicaId, payload: bytes, now: Now) -> None:
            nonlocal asked
            asked += peer == replica(mesh, 4)
            want(self, peer, payload, now)

        for number in range(4):
            vars(mesh.peer(number).quorum)["_handlers"][Frame.WANT_BLOCKS] = partial(counted, mesh.peer(number).quorum._spread)
        lie = Standing(1, 0, 1 << 60, bytes(4), 0, 0, None, False)
        quorum.handle_untrusted(replica(mesh, 3), Frame.STANDING, lie.encode(), mesh.hosts[4].now())
        mesh.run(30.0)
        assert 0 < asked < 20
        assert not quorum._spread._ahead
        assert wait(mesh, 4, put(mesh, 4, "tasks/1", 1)).status is DONE


def test_who_waits_for_a_slow_answer_hears_who_is_quick() -> None:
    """Its question went to a peer that had been paused for 7 s: four times as long nobody else was asked (seed 63311)."""
    with open_mesh(5, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        mesh.run(1.0)
        spread, chain = mesh.peer(4).quorum._spread, mesh.peer(4).quorum.chain
        assert chain is not None
        now = mesh.hosts[4].now()
        spread._ask_at = now.monotonic + 30.0
        ahead = Standing(1, chain.applied, chain.proven + 1, bytes(4), 0, 0, None, False)
        spread.standing_untrusted(replica(mesh, 3), ahead.encode(), now)
        assert spread._ask_at < now.monotonic + 1.0


def test_a_false_proof_displaces_no_true_one() -> None:
    """Any member could fill the waiting room for certificates, or have the true blocks thrown away that its own did not fit."""
    with open_mesh(5, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        chain, voter = mesh.peer(4).quorum.chain, replica(mesh, 0)
        assert chain is not None
        mesh.cut([4])
        outcome = wait(mesh, 0, put(mesh, 0, "tasks/1", 1))
        mesh.run(0.1)
        true = mesh.peer(0).quorum.chain
        assert true is not None
        block, proof = true.log.get(outcome.index), true.proof(outcome.index)
        assert block is not None
        assert proof is not None
        for at in range(chain.applied + 1, outcome.index + 1):
            held = true.log.get(at)
            assert held is not None
            assert chain.offer_block(held)
        for at in range(chain.applied + 1, chain.applied + 200):
            chain.offer_acks_untrusted(at, bytes(16), (Ack(voter, at, bytes(64)),))
        chain.settle()
        assert chain.has(outcome.index)
        assert chain.offer_acks_untrusted(outcome.index, block.hash, proof.acks)
        assert not chain.offer_acks_untrusted(outcome.index, bytes(16), (Ack(voter, outcome.index, bytes(64)),))
        chain.settle()
        assert chain.applied == outcome.index
