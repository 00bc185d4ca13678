"""Use up memory, or the time of everybody: as an outsider, and as a member. Many of these are regressions."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sized
from typing import Any

import pytest

from crdt.ids import ReplicaId, ShelfId
from mesh import complaints
from mesh import intake as intake_module
from mesh import peer as peer_module
from mesh.allowance import MALFORMED_MICROSECONDS, PRICES, WORK_BURST, WORK_PER_SECOND, Allowance
from mesh.effects import Now
from mesh.events import ShelfFault
from mesh.fair import loser
from mesh.presets import LAN
from mesh.swim.claims import Accusation, Alive, Reason, seal
from mesh.swim.config import SwimConfig
from mesh.swim.exchange import ROW_BYTES, WANTED_AT_ONCE, WANTED_MAX
from mesh.swim.quota import WRONG_BURST, Quota
from mesh.sync import pins
from mesh.sync import sync as sync_module
from mesh.sync.messages import Digest, Floor, Want, WantListing
from mesh.sync.statements import StatementExchange
from mesh.testing import Mesh, open_mesh
from mesh.trust import Authority, Identity
from mesh.trust import directory as directory_module
from mesh.trust.directory import Directory
from mesh.trust.statements import PURPOSE, Witness, issue
from mesh.wire import cose
from mesh.wire import strangers as strangers_module
from mesh.wire.cbor import encode
from mesh.wire.cose import to_be_signed
from mesh.wire.frames import Frame
from mesh.wire.handshake import Init, encode_init, mesh_tag
from mesh.wire.packer import TokenBucket
from mesh.wire.session import DATA
from mesh.wire.transport import TransportLimits
from tests.attacks.stage import Author, alive_at, both, record, say, shows, throw, told, without
from tests.wire.world import World

THREAT = "memory and CPU floods"

LIAR = 2


def signed(mesh: Mesh, host: int, claim: Any) -> bytes:
    identity, mesh_id = mesh.memberships[host].identity, mesh.authority.mesh_id
    return seal(claim, lambda purpose, payload: identity.sign(to_be_signed(payload, purpose, mesh_id))).raw


# ---- memory


@both
def test_refused_statements_are_forgotten(defended: bool) -> None:
    """Each was remembered, a kilobyte, until something was added to the set. Regression."""

    def remember(self: StatementExchange, peer: ReplicaId, raw: bytes, now: Any) -> None:
        self._heard.add(raw)
        self._directory.add_untrusted(raw, now, peer)

    with open_mesh(3, seed=1) as mesh, without(defended, StatementExchange, "statement_untrusted", remember):
        for number in range(100):
            say(mesh, LIAR, 0, Frame.TRUST, number.to_bytes(4, "big") * 100)
            mesh.run(0.01)
        assert len(mesh.peer(0).sync.statements._heard) == (0 if defended else 100)


@both
def test_invented_accusers_get_no_quota_of_their_own(defended: bool) -> None:
    """An accusation against us opened an account for whoever it named, before its signature was looked at. Regression."""

    def open_an_account(self: Quota, accuser: ReplicaId, now: float) -> bool:
        budget = self._refilled(accuser, now)
        return budget.pace >= 1 and budget.wrong >= 1

    with open_mesh(3, seed=2) as mesh, without(defended, Quota, "allows", open_an_account):
        victim = mesh.peer(0)
        for number in range(200):
            accuser = ReplicaId(number.to_bytes(8, "big"))
            claim = Accusation(victim.replica_id, victim.swim.incarnation, accuser, 1, Reason.SILENT)
            say(mesh, LIAR, 0, Frame.CLAIM, signed(mesh, LIAR, claim))
            mesh.run(0.01)
        assert (len(victim.swim._beliefs.quota._budgets) >= 200) == (not defended)


@both
def test_reasons_to_drop_are_not_for_the_sender_to_invent(defended: bool) -> None:
    """A reason may quote what came: each new number was a new counter. Regression."""
    with open_mesh(3, seed=3) as mesh, without(defended, intake_module, "DROP_REASONS_MAX", 1 << 30):
        for number in range(600):
            payload = encode([-number - 1, 1])
            identity, mesh_id = mesh.memberships[LIAR].identity, mesh.authority.mesh_id
            raw = cose.sign1(identity.sign, payload, kid=identity.replica_id, purpose=PURPOSE, mesh_id=mesh_id)
            say(mesh, LIAR, 0, Frame.TRUST, raw)
            mesh.run(0.005)
        reasons = len(mesh.peer(0).drops)
        assert (reasons >= 600) == (not defended)
        assert sum(mesh.peer(0).drops.values()) >= 600


@pytest.mark.interpreted
@both
def test_one_member_does_not_fill_the_waiting_room_for_deltas(defended: bool) -> None:
    """64 deltas wait for their author's credential, the oldest went first: a member pushed out all others'. Regression."""

    def oldest(owners: Mapping[bytes, object]) -> bytes:
        return next(iter(owners))

    with open_mesh(4, seed=4) as mesh, without(defended, sync_module, "loser", oldest):
        newcomer = Author(mesh, 3, birth=9)
        _forget_credential(mesh, 0, 3)
        say(mesh, 1, 0, Frame.DELTA, newcomer.write("newcomer/first", "here"))
        mesh.run(0.001)
        for number in range(200):
            junk = Author(mesh, 3, birth=1_000 + number).write("junk", number)
            say(mesh, LIAR, 0, Frame.DELTA, junk)
            mesh.run(0.0001)
        waiting = mesh.peer(0).sync._waiting
        assert len(waiting) == sync_module.WAITING_MAX
        kept = any(owner == mesh.memberships[1].replica_id for owner, _ in waiting.values())
        assert kept == defended


def _forget_credential(mesh: Mesh, at: int, of: int) -> None:
    """As if the credential of this member were still on its way to that one; nobody may hand it over for now."""
    directory, replica = mesh.peer(at).directory, mesh.memberships[of].replica_id
    del directory._ledger.standings[replica]
    vars(mesh.peer(at).sync.statements)["offer"] = lambda peer, now: None


@both
def test_one_member_does_not_fill_the_waiting_room_for_statements(defended: bool) -> None:
    """As for deltas. Regression."""

    def oldest(owners: Mapping[bytes, object]) -> bytes:
        return next(iter(owners))

    authority, foreign = Authority.generate(), Authority.generate()
    directory = Directory(authority.charter)
    honest, liar = ReplicaId(b"honest.."), ReplicaId(b"liar....")
    now = Now(100.0, 0)
    mine = Identity.generate()
    witness = issue(Witness(mine.replica_id, mine.public_key), mine, authority.mesh_id)
    with without(defended, directory_module, "loser", oldest):
        assert directory.add_untrusted(witness, now, honest) is None
        for number in range(200):
            member = foreign.enrol(Identity.generate(), name=f"x{number}", may_write=["**"])
            directory.add_untrusted(member.credential, now, liar)
    assert directory.waiting == directory_module.WAITING_MAX
    assert (honest in directory._brought.values()) == defended


def test_of_a_full_table_whoever_brought_most_loses_its_oldest() -> None:
    assert loser({"a1": "a", "b1": "b", "b2": "b"}) == "b1"
    assert loser({"a1": "a", "b1": "b"}) == "a1"
    assert loser({"a1": "a", "b1": "b", "c1": "c", "a2": "a"}) == "a1"
    with pytest.raises(ValueError, match="nothing"):
        loser({})


def _row(member: bytes) -> bytes:
    """A member in its first incarnation, alive."""
    return (member + b"\0\0\0\1").ljust(ROW_BYTES, b"\0")


def test_invented_members_of_one_liar_keep_nobody_out() -> None:
    """65,536 ids could wait to be asked for, over all peers: one liar's kept everybody else's members out. Regression."""
    with open_mesh(4, seed=5) as mesh:
        exchange = mesh.peer(0).swim._exchange
        for page in range(160):
            rows = b"".join(_row((page * 60 + number + 1).to_bytes(8, "big")) for number in range(60))
            say(mesh, LIAR, 0, Frame.MEMBER_ROWS, encode([0xFFFF, bytes(8), b"\xff" * 8, rows, True]))
            mesh.run(0.002)
        assert len(exchange._pulls[mesh.memberships[LIAR].replica_id].queue) <= WANTED_MAX
        row = _row(b"newcomer")
        say(mesh, 1, 0, Frame.MEMBER_ROWS, encode([0xFFFF, bytes(8), b"\xff" * 8, row, True]))
        mesh.run(0.002)
        assert ReplicaId(b"newcomer") in exchange._asked
        assert len(exchange._asked) <= 2 * WANTED_AT_ONCE


@both
def test_a_few_liars_do_not_keep_all_places_of_witnesses(defended: bool) -> None:
    """256 pings on behalf of others are under way at once; whoever asked said for how long, up to two minutes. Regression."""
    with open_mesh(4, seed=6) as mesh:
        prober = mesh.peer(0).swim._prober
        if not defended:
            prober._patience_max = 120.0
        mesh.crash(3)
        for number in range(16):
            say(mesh, LIAR, 0, Frame.PING_REQUEST, encode([number, mesh.memberships[3].replica_id, 120_000]))
        mesh.run(15.0)
        assert bool(prober._relays) == (not defended)


@both
def test_an_author_at_fault_does_not_fill_the_queues_of_events(defended: bool) -> None:
    """One event for each delta outside its rights; 1,024 of them push all others out of a user's queue. Regression."""
    with open_mesh(3, seed=16, may_write=("mine/**",)) as mesh, without(defended, complaints, "COMPLAIN_SECONDS", 0.0):
        author = Author(mesh, LIAR, birth=7)
        for number in range(60):
            author.tell(0, author.write("yours/now", number))
            mesh.run(0.01)
        assert (len(told(mesh, 0, ShelfFault)) > 50) == (not defended)
        assert told(mesh, 0, ShelfFault)


# ---- work


@both
def test_a_member_has_an_allowance_of_work(defended: bool) -> None:
    """A digest asks for a digest, and for pages of floors where buckets differ: 500 bytes in, 25 kB out."""
    with open_mesh(3, seed=7) as mesh, without(defended, Allowance, "take", lambda *_: True):
        for number in range(200):
            mesh.node(number % 3).register(f"key/{number}").set(number)
        mesh.run(3.0)
        before = mesh.peer(0).transport.counters.frames_sent[Frame.DIGEST]
        ask = Digest(True, Floor(ShelfId(bytes(12)), 0, b""), bytes(8), bytes(len(_buckets(mesh))), ()).encode()
        for _ in range(3_000):
            say(mesh, LIAR, 0, Frame.DIGEST, ask)
            mesh.run(0.0001)
        answered = mesh.peer(0).transport.counters.frames_sent[Frame.DIGEST] - before
        allowed = (WORK_BURST + WORK_PER_SECOND * 0.3) / PRICES[Frame.DIGEST]
        assert (answered > 1.5 * allowed) == (not defended)
        assert mesh.peer(0).drops["over_allowance"] > 1_000 or not defended
        mesh.node(1).register("still").set("here")
        mesh.run(0.2)
        assert shows(mesh, 0, "still") == "here"


def _buckets(mesh: Mesh) -> bytes:
    return mesh.peer(0).sync._table.hashes()


@both
def test_nonsense_uses_up_the_allowance_of_whoever_says_it(defended: bool) -> None:
    """388 frames of three bytes fit a datagram; each costs an exception."""
    with open_mesh(3, seed=8) as mesh, without(defended, Allowance, "charge", lambda *_: None):
        for _ in range(100):
            say(mesh, LIAR, 0, Frame.BODY, *([b""] * 388))
        mesh.run(0.05)
        read = mesh.peer(0).drops["body: not CBOR: premature end of stream (expected to read 1 bytes, got 0 instead)"]
        read = read or max(count for reason, count in mesh.peer(0).drops.items() if reason.startswith("body"))
        allowed = (WORK_BURST + WORK_PER_SECOND * 0.1) / MALFORMED_MICROSECONDS
        assert (read > allowed + 388) == (not defended)
        mesh.run(5.0)
        assert alive_at(mesh, 0) == 2


def test_repairs_that_nobody_asked_for_are_charged() -> None:
    with open_mesh(3, seed=9) as mesh:
        author = Author(mesh, LIAR, birth=7)
        raws = [author.write(f"key/{number % 10}", number) for number in range(50)]
        peer, replica = mesh.peer(0), mesh.memberships[LIAR].replica_id
        mesh.run(2.0)
        before = peer.intake.allowance._bucket(replica).refill(mesh.hosts[0].now().monotonic)
        say(mesh, LIAR, 0, Frame.REPAIR, *raws)
        mesh.run(0.002)
        assert peer.sync.counters.repairs_unasked >= 45  # the first ones made a gap, which was asked for
        assert peer.intake.allowance._bucket(replica).tokens < before - 40 * PRICES[Frame.DELTA]


@both
def test_one_liar_accuses_a_few_times_and_then_no_more(defended: bool) -> None:
    """Each accusation makes the accused sign and everybody verify."""
    with open_mesh(6, seed=10) as mesh, without(defended, Quota, "allows", lambda *_: True):
        victim = mesh.peer(0)
        for _ in range(100):
            for number in (1, 3, 4, 5):
                claim = Accusation(
                    victim.replica_id, victim.swim.incarnation, mesh.memberships[LIAR].replica_id, 1, Reason.SILENT
                )
                say(mesh, LIAR, number, Frame.CLAIM, signed(mesh, LIAR, claim))
            mesh.run(0.1)
        refuted = victim.swim.counters["refutations"]
        assert (refuted > 4 * WRONG_BURST) == (not defended)
        assert all(alive_at(mesh, number) == 5 for number in (0, 1, 3, 4, 5)) or not defended


@both
def test_a_member_has_a_budget_of_listings(defended: bool) -> None:
    """Making a listing looks at a whole shelf: each page asked for with another `since` made a new one."""
    with open_mesh(3, seed=11) as mesh, without(defended, TokenBucket, "refill", lambda *_: 1e9):
        for number in range(400):
            mesh.node(0).register(f"key/{number}").set(number)
            if number % 4 == 0:
                mesh.run(0.006)
        mesh.run(2.0)
        made = []
        server = mesh.peer(0).sync._server
        listing = server.pins._list_shelf
        server.pins._list_shelf = lambda shelf, since: made.append(since) or listing(shelf, since)  # type: ignore[func-returns-value]
        shelf = mesh.peer(0).replica.shelf
        server.pins._budgets[mesh.memberships[LIAR].replica_id] = TokenBucket(pins.ENTRIES_PER_S, 1_000.0)
        for since in range(90):
            say(mesh, LIAR, 0, Frame.WANT_LISTING, WantListing(shelf, since, 0, 0).encode())
        mesh.run(0.01)
        assert (len(made) > 60) == (not defended)


def test_repeated_claims_and_deltas_are_verified_once() -> None:
    with open_mesh(3, seed=12) as mesh:
        raw = Author(mesh, LIAR, birth=7).write("key", 1)
        say(mesh, LIAR, 0, Frame.DELTA, raw)
        mesh.run(0.01)
        asked = mesh.crypto.verifications_asked
        for _ in range(300):
            say(mesh, LIAR, 0, Frame.DELTA, raw)
        mesh.run(0.001)
        assert mesh.peer(0).sync.counters.deltas_duplicate >= 300
        assert mesh.crypto.verifications_asked == asked


def test_a_want_costs_a_bounded_number_of_frames() -> None:
    """A page of floors asks for everything of everybody; the answer is 64 frames, and the rest is asked for again."""
    with open_mesh(3, seed=13) as mesh:
        for number in range(300):
            mesh.node(0).register(f"key/{number}").set(number)
            mesh.run(0.006)
        mesh.run(1.0)
        floors = tuple(Floor(shelf, 0, b"") for shelf in mesh.peer(0).replica.shelves())
        before = mesh.peer(0).transport.counters.frames_sent[Frame.REPAIR]
        say(mesh, LIAR, 0, Frame.WANT, Want(floors * 5).encode())
        mesh.run(0.001)
        assert mesh.peer(0).transport.counters.frames_sent[Frame.REPAIR] - before <= sync_module.WAITING_MAX + 64


# ---- outsiders


@both
def test_one_place_does_not_keep_newcomers_out(defended: bool) -> None:
    """Key agreements with strangers are limited, over all: one machine that kept connecting used them all. Regression."""
    with without(defended, strangers_module, "SHARE_OF_ONE", 1.0):
        world = World(delay=(0.0005, 0.0005))
        b = world.start(2, limits=TransportLimits(strangers_per_s=1.0, strangers_burst=20.0))
        world.revoked |= set(range(10, 70))
        for number in range(10, 70):
            attacker = world.start(number)
            attacker.contact(b)
            world.run(0.004)
            world.stop(attacker)
        friend = world.start(3)
        world.stop(friend)
        friend.address = ("10.0.0.9", 3)
        world.sides[friend.address] = friend
        friend.contact(b)
        world.run(0.05)
        assert (b.id in friend.opened) == defended


def test_garbage_costs_no_memory_no_signature_and_no_answer_to_speak_of() -> None:
    with open_mesh(3, seed=14) as mesh:
        rng = random.Random(1)
        peer = mesh.peer(0)
        transport = peer.transport
        tables: list[Sized] = [
            transport._peers.by_id,
            transport._peers.by_key,
            transport._by_tag,
            transport._connected,
            transport._attempts._by_address,
        ]
        sizes = [len(table) for table in tables]
        asked = mesh.crypto.verifications_asked
        sent = record(mesh)
        came = 0
        for number in range(5_000):
            datagram = bytes((rng.choice((DATA, 2, 3, 4, 5, 77)),)) + rng.randbytes(rng.choice((8, 30, 64, 300)))
            if number % 5 == 0:
                datagram = encode_init(mesh_tag(mesh.authority.mesh_id), Init(rng.randbytes(16), rng.randbytes(32)))
            throw(mesh, 0, datagram, ("203.0.113.9", number))
            came += len(datagram)
        out = sum(len(each) for source, address, each in sent if source == 0 and address[0] == "203.0.113.9")
        assert out <= came
        assert [len(table) for table in tables] == sizes
        assert mesh.crypto.verifications_asked == asked
        mesh.run(3.0)
        assert alive_at(mesh, 0) == 2


@pytest.mark.parametrize("kind", list(PRICES))
def test_no_price_is_above_what_a_member_may_have_at_once(kind: Frame) -> None:
    """Else it would never be looked at."""
    assert 0 < PRICES[kind] < WORK_BURST / 10


def test_a_claim_in_the_name_of_a_member_costs_one_verification_at_most() -> None:
    with open_mesh(3, seed=15) as mesh:
        subject = mesh.memberships[1].replica_id
        forged = [
            seal(Alive(subject, 100 + number, 7, ("10.9.9.9", 1), "x", b"", b""), lambda _purpose, _payload: bytes(64)).raw
            for number in range(50)
        ]
        asked = mesh.crypto.verifications_asked
        for raw in forged:
            say(mesh, LIAR, 0, Frame.CLAIM, raw)
        mesh.run(0.001)
        assert mesh.crypto.verifications_asked - asked <= 50
        assert mesh.peer(0).swim.address_of(subject) == mesh.hosts[1].address


def test_settings_keep_an_allowance_above_what_honest_members_cost() -> None:
    """Ten times what the busiest member asks of another one: probes, digests and eager deltas of the quickest preset."""
    swim: SwimConfig = LAN.swim
    per_second = 2 * (PRICES[Frame.PING] + PRICES[Frame.ACK]) / swim.probe_interval_seconds
    per_second += 10 * PRICES[Frame.DIGEST] + peer_module.EAGER_PER_SECOND * PRICES[Frame.DELTA]
    assert per_second < WORK_PER_SECOND / 4
