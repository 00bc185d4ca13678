"""The statement set: the same rights for everybody who holds the same statements, whatever came first."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdt.ids import ReplicaId, shelf_id
from crdt.ops import Rights
from mesh.errors import ConfigError, Refused
from mesh.events import CharterRaised, MemberRevoked, SerialReused
from mesh.trust import Admission, Authority, Directory, StatementId, Verdict, key_id, redeem
from mesh.trust.directory import WAITING_MAX
from mesh.trust.statements import Closing, Credential, Enrolment, Invite, Revocation, Terms, Witness, issue, statement_id
from tests.trust.world import Node, add_all, at, authority, charter_of, entropy, identity, signed

GRANT = Terms("x", ("**",), False, 0, None)


def history(rng: random.Random) -> tuple[Authority, list[bytes], list[ReplicaId]]:
    """A mesh with everything in it: members by credential and by invite, contests with witnesses, narrowings, revocations
    before and after what they revoke, newer charters, reused serials, a second authority key.
    """
    tool = authority("history", critical=["tasks/**"])
    members = [identity(("member", i)) for i in range(4)]
    guests = [identity(("guest", i)) for i in range(6)]
    raws: list[bytes] = []
    serials = iter(range(2, 100))

    def terms(name: str | None) -> Terms:
        return Terms(name, rng.choice([("**",), ("a/**",), ("a/*", "tasks/**"), ()]), rng.random() < 0.5, rng.randrange(16), None)

    def pairs() -> tuple[tuple[int, int], ...]:
        return tuple((birth, rng.randrange(1, 5)) for birth in range(3) if rng.random() < 0.5)

    for i, member in enumerate(members):
        raws.append(signed(tool, Credential(next(serials), member.public_key, terms(f"m{i}"), None)))
    for i in range(3):
        key = identity(("invite", i))
        serial = next(serials) if i < 2 else 3  # a serial that is used already
        raws.append(signed(tool, Invite(serial, key.public_key, terms(rng.choice([None, "guest"])), None)))
        redeemers = rng.sample(guests, rng.choice([1, 1, 2]))
        raws.extend(issue(Enrolment(each.public_key, rng.choice([None, "g"])), key, tool.mesh_id) for each in redeemers)
        for member in rng.sample(members, rng.randrange(4)):
            raws.append(issue(Witness(key.replica_id, rng.choice(redeemers).public_key), member, tool.mesh_id))
        if rng.random() < 0.3:
            raws.append(signed(tool, Revocation(next(serials), key.replica_id, pairs())))
    for member in rng.sample(members, 2):
        raws.append(signed(tool, Credential(next(serials), member.public_key, terms("m"), rng.choice([None, pairs()]))))
    for someone in rng.sample(members + guests, 2):
        for number in range(rng.choice([1, 1, 2])):
            serial, key = next(serials), identity(("rotated", someone.public_key, number)).of_replica(someone.replica_id)
            closed = rng.choice([None, pairs()])
            raws.append(signed(tool, Credential(serial, key.public_key, terms("rotated"), closed, someone.replica_id)))
            raws.extend(issue(Closing(serial, pairs()), key, tool.mesh_id) for _ in range(rng.randrange(3)))
    for someone in rng.sample(members + guests, 3):
        raws.append(signed(tool, Revocation(next(serials), someone.replica_id, pairs())))
        if rng.random() < 0.5:
            raws.append(signed(tool, Credential(next(serials), someone.public_key, terms("back"), None)))
    for _ in range(2):
        raws.append(charter_of(tool, next(serials), rng.choice([[], ["a/1"]])))
    everybody = [each.replica_id for each in (*members, *guests, identity("by second"), identity(("invite", 0)))]
    return tool, raws, everybody


def everything_said(known: Directory, everybody: list[ReplicaId]) -> object:
    """All answers that decide about state, and those that people see."""
    said: list[object] = [known.digest, known.ids(), known.charter, known.keys(at(0)), known.replicas()]
    for replica in everybody:
        said += [
            known.public_key(replica),
            known.open_keys(replica),
            [known.public_keys(replica, shelf_id(replica, birth), seq) for birth in range(3) for seq in range(1, 5, 2)],
            known.credential(replica),
            known.revoked(replica),
            known.name(replica),
            known.rights(replica),
        ]
        for credential in range(36):
            for charter in (1, credential):
                rights = Rights(credential, charter)
                said += [known.may_write(replica, rights, path) for path in (("a", "1"), ("a", "1", "2"), ("tasks", "1"))]
                said += [known.verdict(shelf_id(replica, birth), seq, rights) for birth in range(3) for seq in range(1, 5, 2)]
    return said


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(seed: int, order: random.Random) -> None:
    tool, raws, everybody = history(random.Random(seed))
    first, other = Directory(tool.charter), Directory(tool.charter)
    add_all(first, raws, at(0))
    shuffled = raws * 2  # duplicates change nothing
    order.shuffle(shuffled)
    for number, raw in enumerate(shuffled):
        other.add_untrusted(raw, at(number))
    assert other.waiting == first.waiting == 0
    assert everything_said(other, everybody) == everything_said(first, everybody)
    restored = Directory(tool.charter)
    order.shuffle(shuffled)
    assert restored.restore(shuffled) == []
    assert everything_said(restored, everybody) == everything_said(first, everybody)


def test_the_histories_contain_what_they_are_meant_to() -> None:
    """Else the test above could be vacuous."""
    seen: set[str] = set()
    for seed in range(30):
        tool, raws, everybody = history(random.Random(seed))
        known = Directory(tool.charter)
        add_all(known, raws, at(0))
        seen.update(info.state.value for info in known.keys(at(0)))
        for replica in everybody:
            seen.update(known.verdict(shelf_id(replica, 1), 2, Rights(serial, 1)).value for serial in range(1, 36))
    assert seen == {"member", "revoked", "refused", "honoured", "void", "unknown"}


def test_take_added_can_be_added_again_in_its_order() -> None:
    tool, raws, everybody = history(random.Random(7))
    first, other = Directory(tool.charter), Directory(tool.charter)
    random.Random(7).shuffle(raws)
    add_all(first, raws, at(0))
    added = first.take_added()
    assert first.take_added() == []
    for raw in added:
        other.add_untrusted(raw, at(0))
        assert other.waiting == 0  # a store that keeps this order finds issuers before what they issued
    assert everything_said(other, everybody) == everything_said(first, everybody)


def test_take_changed_names_whose_rights_changed() -> None:
    tool = authority()
    node = Node(tool.enrol(identity("a"), name="a"))
    known = node.directory
    known.take_changed()
    tool.certify(identity("b").public_key, name="b")
    add_all(known, tool.statements, at(0))
    assert known.take_changed() == [identity("b").replica_id]
    add_all(known, tool.statements, at(0))
    assert known.take_changed() == []
    known.add_untrusted(tool.revoke("b", honoured=[]), at(0))
    assert known.take_changed() == [identity("b").replica_id]
    known.add_untrusted(tool.amend(critical=["x/**"]), at(0))
    assert known.take_changed() == sorted([identity("a").replica_id, identity("b").replica_id])  # what is critical concerns all


# --- ids, digest, pages


def test_digest_and_pages_follow_the_set() -> None:
    tool = authority()
    known = Directory(tool.charter)
    digests = {known.digest}
    for i in range(20):
        known.add_untrusted(tool.certify(identity(i).public_key, name=str(i)), at(0))
        digests.add(known.digest)
    assert len(digests) == 21
    assert all(len(each) == 16 for each in digests)
    ids = known.ids()
    assert ids == sorted(ids)
    assert len(ids) == 21
    pages: list[StatementId] = []
    while page := known.ids(pages[-1] if pages else b"", limit=4):
        pages += page
    assert pages == ids
    assert known.ids(ids[3], ids[7]) == ids[4:8]
    assert known.ids(ids[-1]) == []
    for identifier in ids:
        raw = known.raw(identifier)
        assert raw is not None
        assert statement_id(raw) == identifier
    assert known.raw(bytes(8)) is None
    assert known.raw(b"") is None


# --- waiting


def test_statements_wait_for_their_issuer_and_are_judged_then() -> None:
    tool, key = authority(), identity("invite")
    invite = signed(tool, Invite(2, key.public_key, GRANT, None))
    enrolment = issue(Enrolment(identity("x").public_key, None), key, tool.mesh_id)
    forged = bytearray(issue(Enrolment(identity("thief").public_key, None), key, tool.mesh_id))
    forged[-1] ^= 1
    known = Directory(tool.charter)
    assert known.add_untrusted(enrolment, at(0)) is None
    assert known.add_untrusted(bytes(forged), at(0)) is None
    assert known.waiting == 2
    assert known.public_key(identity("x").replica_id) is None
    assert known.add_untrusted(invite, at(0)) is not None
    assert known.take_added() == [invite, enrolment]
    assert known.waiting == 0
    assert known.public_key(identity("x").replica_id) == identity("x").public_key
    assert known.public_key(identity("thief").replica_id) is None
    assert known.drops == {"waiting and forged": 1}


def test_a_flood_of_orphans_is_bounded_and_the_newest_are_kept() -> None:
    tool = authority()
    known = Directory(tool.charter)
    orphans = [
        issue(Enrolment(identity(i).public_key, None), identity(("unknown", i)), tool.mesh_id) for i in range(WAITING_MAX + 10)
    ]
    add_all(known, orphans, at(0))
    assert known.waiting == WAITING_MAX
    assert known.drops == {"waiting": 10}
    key = identity(("unknown", WAITING_MAX + 9))
    known.add_untrusted(signed(tool, Invite(2, key.public_key, GRANT, None)), at(0))
    assert known.public_key(identity(WAITING_MAX + 9).replica_id) is not None


# --- attacks


def test_only_the_authority_makes_credentials_invites_and_revocations() -> None:
    tool, key = authority(), identity("invite")
    member = identity("member")
    known = Directory(tool.charter)
    add_all(known, [tool.certify(member.public_key, name="m"), signed(tool, Invite(9, key.public_key, GRANT, None))], at(0))
    digest = known.digest
    for forger in (member, key):
        for content in (
            Credential(99, forger.public_key, GRANT, None),
            Invite(99, forger.public_key, GRANT, None),
            Revocation(99, member.replica_id, ()),
        ):
            with pytest.raises(Refused, match="not the authority"):
                known.add_untrusted(issue(content, forger, tool.mesh_id), at(0))
        with pytest.raises(Refused, match="not the authority"):
            known.add_untrusted(issue(known.charter._replace(serial=99), forger, tool.mesh_id), at(0))
    # Signed by a stranger in the authority's name: the kid is not proof of anything.
    stranger = identity("stranger")
    raw = issue(Credential(99, stranger.public_key, GRANT, None), stranger, tool.mesh_id)
    raw = raw.replace(stranger.replica_id, tool.identity.replica_id, 1)
    with pytest.raises(Refused, match="signature"):
        known.add_untrusted(raw, at(0))
    assert known.digest == digest


def test_an_old_serial_brings_nothing_back() -> None:
    """Serial rollback: a statement that was kept back and comes after a newer one."""
    tool = authority()
    member = identity("m")
    known = Directory(tool.charter)
    wide = tool.certify(member.public_key, name="m", may_write=["**"], score=9)
    narrow = tool.reissue("m", may_write=["a/**"], score=1, honoured=[(1, 5)])
    gone = tool.revoke("m", honoured=[(1, 3)])
    for raw in (gone, narrow, wide):
        known.add_untrusted(raw, at(0))
    assert known.revoked(member.replica_id)
    assert known.rights(member.replica_id) is None
    assert known._ledger.standings[member.replica_id].open_serial(member.public_key) is None
    grant = known.credential(member.replica_id)
    assert grant is not None
    assert grant.terms.may_write == ("a/**",)
    assert grant.terms.score == 1
    assert known.admission(member.replica_id, at(0)) is Admission.REVOKED
    assert known.verdict(shelf_id(member.replica_id, 1), 3, Rights(grant.serial, 1)) is Verdict.HONOURED
    assert known.verdict(shelf_id(member.replica_id, 1), 4, Rights(grant.serial, 1)) is Verdict.VOID


def test_the_root_of_trust_is_a_charter_only() -> None:
    tool = authority()
    for wrong in (b"", b"x", tool.certify(identity("x").public_key, name="x")):
        with pytest.raises(ConfigError, match="not a charter"):
            Directory(wrong)


@pytest.mark.interpreted
def test_two_replicas_of_one_id_keep_the_older(monkeypatch: pytest.MonkeyPatch) -> None:
    """2^64 tries make a key with another's replica id. The hash is shortened here to have one."""
    tool = authority()
    honest, attacker = identity("honest"), identity("attacker")

    def colliding(public_key: bytes) -> ReplicaId:
        return honest.replica_id if public_key == attacker.public_key else real(public_key)

    real = key_id
    for module in ("ledger", "directory"):
        monkeypatch.setattr(f"mesh.trust.{module}.key_id", colliding)
    raws = [
        signed(tool, Credential(5, honest.public_key, GRANT._replace(may_write=("a",)), None)),
        signed(tool, Credential(9, attacker.public_key, GRANT, ())),
    ]
    for order in (raws, raws[::-1]):
        known = Directory(tool.charter)
        add_all(known, order, at(0))
        assert known.public_key(honest.replica_id) == honest.public_key
        assert not known.may_write(honest.replica_id, Rights(9, 1), ("b",))
        assert known.verdict(shelf_id(honest.replica_id, 1), 1, Rights(5, 1)) is Verdict.HONOURED  # not narrowed by the other's
        assert known.admit(honest.public_key, raws[0], at(0)) == honest.replica_id
        assert known.admit(attacker.public_key, raws[1], at(0)) is None


# --- events


def test_revocations_newer_charters_and_reused_serials_are_told_once() -> None:
    tool = authority()
    node = Node(tool.enrol(identity("a"), name="a"))
    tool.certify(identity("b").public_key, name="b")
    revocation = tool.revoke("b", honoured=[])
    amended = tool.amend(critical=["x"])
    for _ in range(2):
        add_all(node.directory, [*tool.statements, revocation, amended], at(0))
    assert node.told(MemberRevoked) == [MemberRevoked(identity("b").replica_id, "b")]
    assert node.told(CharterRaised) == [CharterRaised(node.directory.charter.serial)]
    assert node.told(SerialReused) == []
    node.directory.add_untrusted(signed(tool, Revocation(2, bytes(8), ())), at(0))
    assert node.told(SerialReused) == [SerialReused(2)]
    older = charter_of(tool, 1, ["old"])
    node.directory.add_untrusted(older, at(0))
    assert len(node.told(CharterRaised)) == 1


def test_what_comes_from_the_own_disk_is_no_news() -> None:
    tool, raws, _ = history(random.Random(3))
    node = Node(tool.enrol(identity("me"), name="me"))
    assert node.directory.restore(raws) == []
    assert node.events == []
    assert node.directory.take_added() == []


def test_damaged_rows_of_the_disk_are_named_and_the_rest_is_taken() -> None:
    tool, other = authority(), authority("other")
    good = tool.certify(identity("a").public_key, name="a")
    alien = other.certify(identity("b").public_key, name="b")
    known = Directory(tool.charter)
    complaints = known.restore([b"junk", alien, good, good[:-1] + bytes([good[-1] ^ 1])])
    assert len(complaints) == 3
    assert all(line.startswith("statement ") and "\n" not in line for line in complaints)
    assert known.replicas() == [identity("a").replica_id]


# --- names


def test_names_given_by_the_authority_go_first() -> None:
    tool = authority()
    invite = tool.invite(may_write=["x"], entropy=entropy("token"))
    impostor = redeem(invite, identity("impostor"), name="robot-1")
    tool.certify(identity("robot").public_key, name="robot-1")
    for order in ([*impostor.statements, *tool.statements], [*tool.statements, *impostor.statements]):
        known = Directory(tool.charter)
        add_all(known, order, at(0))
        assert known.named("robot-1") == [identity("robot").replica_id, identity("impostor").replica_id]
        assert known.name(identity("robot").replica_id) == "robot-1"
        assert known.name(identity("impostor").replica_id) == f"robot-1~{identity('impostor').replica_id.hex()[:8]}"
    assert known.name(ReplicaId(bytes(8))) == "00" * 8
    assert known.named("nobody") == []


def test_a_name_is_free_again_after_a_revocation() -> None:
    tool = authority()
    tool.certify(identity("old").public_key, name="robot")
    tool.revoke("robot", honoured=[(1, 2)])
    tool.certify(identity("new").public_key, name="robot")
    assert tool.directory.named("robot") == [identity("new").replica_id, identity("old").replica_id]
    assert tool.directory.name(identity("new").replica_id) == "robot"
