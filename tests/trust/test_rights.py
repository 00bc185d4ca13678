"""Who may write where: what every replica decides alike about every op."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from crdt.ids import shelf_id
from crdt.ops import DROPPED, REMOVED, TAKEOVER, VALUE, WHILE_ALIVE, Op, Path, Rights
from mesh.trust import Admission, Authority, Directory, Verdict
from mesh.trust.statements import HONOURED_MAX
from tests.trust.world import add_all, at, authority, charter_of, identity, shelf_of, write

AUTHOR = identity("author")
SHELF = shelf_of(AUTHOR, 1)


def mesh(may_write: list[str], critical: list[str] | None = None) -> tuple[Authority, Directory, Rights]:
    tool = authority(critical=critical or [])
    known = Directory(tool.charter)
    known.add_untrusted(tool.certify(AUTHOR.public_key, name="author", may_write=may_write), at(0))
    rights = known.rights(AUTHOR.replica_id)
    assert rights is not None
    return tool, known, rights


def test_an_op_counts_inside_its_authors_patterns_only() -> None:
    _, known, rights = mesh(["robots/7/**"])
    for kind in (VALUE, REMOVED, VALUE | WHILE_ALIVE):
        assert known.allowed(write(SHELF, ("robots", "7", "pose"), rights, kind=kind), SHELF)
        assert not known.allowed(write(SHELF, ("robots", "8", "pose"), rights, kind=kind), SHELF)
        assert not known.allowed(write(SHELF, ("robots", b"7", "pose"), rights, kind=kind), SHELF)
    assert known.may_write(AUTHOR.replica_id, rights, ("robots", "7"))
    assert not known.may_write(AUTHOR.replica_id, rights, ("robots",))


def test_ordinary_ops_under_critical_prefixes_never_count() -> None:
    _, known, rights = mesh(["**"], critical=["tasks/**", "locks/*"])
    for path, critical in ((("tasks", "4", "owner"), True), (("tasks",), True), (("locks", "a", "b"), False), (("task",), False)):
        assert known.is_critical(path) is critical
        assert known.allowed(write(SHELF, path, rights), SHELF) is not critical


def test_housekeeping_needs_no_right_to_its_path() -> None:
    """Else a narrowed author could not even take its old writes away, and could start no new shelf."""
    _, known, rights = mesh(["a/**"], critical=["tasks/**"])
    for op in (
        write(SHELF, ("b",), rights, kind=DROPPED),
        write(SHELF, ("tasks", "1"), rights, kind=DROPPED),
        write(SHELF, (bytes(12),), rights, kind=TAKEOVER, type_code=0),
        write(SHELF, (bytes(16),), rights, kind=VALUE, type_code=0),  # a chunk of a large value
    ):
        assert known.allowed(op, SHELF)
        assert not known.allowed(op._replace(rights=Rights(99, 1)), SHELF)
    assert not known.allowed(write(SHELF, ("b",), rights, kind=TAKEOVER), SHELF)  # a takeover is of the core's type


def test_nobody_speaks_for_another_replica() -> None:
    tool, known, rights = mesh(["**"])
    host = identity("host")
    known.add_untrusted(tool.certify(host.public_key, name="host"), at(0))
    op = write(SHELF, ("a",), rights)
    assert known.allowed(op, SHELF)
    assert known.allowed(op, shelf_of(AUTHOR, 2))  # a later start of the same replica
    assert not known.allowed(op, shelf_of(host))
    assert not known.allowed(op, shelf_of(identity("unknown")))


def test_unknown_serials_are_no_right_until_their_statement_comes() -> None:
    tool, known, rights = mesh(["**"])
    later = Rights(tool.directory.serial_max + 1, rights.charter)
    newer = Rights(rights.credential, tool.directory.serial_max + 2)
    for unknown in (later, newer, Rights(0, 0)):
        assert known.verdict(SHELF, 1, unknown) is Verdict.UNKNOWN
        assert not known.knows(AUTHOR.replica_id, unknown)
        assert not known.allowed(write(SHELF, ("a",), unknown), SHELF)
        assert not known.may_write(AUTHOR.replica_id, unknown, ("a",))
    known.add_untrusted(tool.reissue("author", may_write=["a"]), at(0))
    known.add_untrusted(tool.amend(critical=["b"]), at(0))
    for unknown in (later, newer):
        assert known.verdict(SHELF, 1, unknown) is Verdict.HONOURED
        assert known.allowed(write(SHELF, ("a",), unknown), SHELF)
    assert known.verdict(SHELF, 1, Rights(0, 0)) is Verdict.UNKNOWN
    assert known.rights(AUTHOR.replica_id) == Rights(later.credential, newer.charter)


def test_anothers_serial_is_no_right() -> None:
    tool, known, _ = mesh(["a/**"])
    known.add_untrusted(tool.certify(identity("admin").public_key, name="admin", may_write=["**"]), at(0))
    stolen = known.rights(identity("admin").replica_id)
    assert stolen is not None
    assert known.verdict(SHELF, 1, stolen) is Verdict.UNKNOWN
    assert not known.allowed(write(SHELF, ("b",), stolen), SHELF)


def test_widening_keeps_what_was_written_and_does_not_reach_back() -> None:
    tool, known, old = mesh(["a"])
    known.add_untrusted(tool.reissue("author", may_write=["a", "b"]), at(0))
    new = known.rights(AUTHOR.replica_id)
    assert new is not None
    assert known.verdict(SHELF, 10**6, old) is Verdict.HONOURED
    assert known.allowed(write(SHELF, ("b",), new), SHELF)
    assert not known.allowed(write(SHELF, ("b",), old), SHELF)


def test_narrowing_honours_what_it_lists_and_voids_the_rest() -> None:
    tool, known, old = mesh(["**"])
    known.add_untrusted(tool.reissue("author", may_write=["a/**"], honoured=[(1, 5), (7, 1)]), at(0))
    new = known.rights(AUTHOR.replica_id)
    assert new is not None
    shelf = {birth: shelf_of(AUTHOR, birth) for birth in (1, 7, 9)}
    for birth, seq, expected in ((1, 5, True), (1, 6, False), (7, 1, True), (7, 2, False), (9, 1, False)):
        assert known.honoured(shelf[birth], seq, old) is expected  # the old serial is named to escape the new one
        assert known.honoured(shelf[birth], seq, new)


def test_issuing_an_old_op_again_launders_nothing() -> None:
    """After a narrowing, an op that claims to be old (own dot, old serial) sits in a new delta. Nobody can tell whether it is."""
    tool, known, old = mesh(["**"])
    known.add_untrusted(tool.reissue("author", may_write=["a/**"], honoured=[(1, 5)]), at(0))
    new = known.rights(AUTHOR.replica_id)
    assert new is not None
    inside, outside = write(SHELF, ("a", "1"), old, seq=3), write(SHELF, ("z",), old, seq=3, index=1)
    fresh = write(SHELF, ("a", "2"), new, seq=6, index=2)
    assert known.void_ops(SHELF, 5, old, [inside, outside]) == 0  # where it was honoured, it counts
    assert known.void_ops(SHELF, 6, new, [inside, outside, fresh]) == 0b010
    assert known.void_ops(SHELF, 6, old, [inside, outside, fresh]) == 0b111
    drop = write(SHELF, ("z",), old, seq=3, kind=DROPPED)
    assert known.void_ops(SHELF, 6, new, [drop]) == 0  # taking it away is always right


def test_after_a_widening_old_ops_are_issued_again_under_the_rights_of_then() -> None:
    tool, known, old = mesh(["a", "b"])
    known.add_untrusted(tool.reissue("author", may_write=["a"]), at(0))  # narrower patterns, but nothing narrowed by decree
    new = known.rights(AUTHOR.replica_id)
    assert new is not None
    again, never = write(SHELF, ("b",), old), write(SHELF, ("c",), old)
    assert known.void_ops(SHELF, 9, new, [again, never]) == 0b10


def test_a_revocation_ends_every_right_and_keeps_what_it_lists() -> None:
    tool, known, rights = mesh(["**"])
    assert known.admission(AUTHOR.replica_id, at(0)) is Admission.MEMBER
    known.add_untrusted(tool.revoke("author", honoured=[(1, 3)]), at(0))
    assert known.revoked(AUTHOR.replica_id)
    assert known.rights(AUTHOR.replica_id) is None
    assert known.admission(AUTHOR.replica_id, at(0)) is Admission.REVOKED
    ops = [write(SHELF, ("a",), rights)]
    assert known.void_ops(SHELF, 3, rights, ops) == 0
    assert known.void_ops(SHELF, 4, rights, ops) == 1
    assert known.void_ops(shelf_of(AUTHOR, 2), 1, rights, ops) == 1
    again = tool.reissue(AUTHOR.replica_id, may_write=["**"])
    known.add_untrusted(again, at(0))
    back = known.rights(AUTHOR.replica_id)
    assert back is not None
    assert not known.revoked(AUTHOR.replica_id)
    assert known.void_ops(SHELF, 4, back, [write(SHELF, ("a",), back, seq=4)]) == 0
    assert known.void_ops(SHELF, 4, rights, ops) == 1  # what the revocation voided stays void


def test_two_narrowings_honour_what_both_list() -> None:
    tool, known, rights = mesh(["**"])
    first = tool.revoke("author", honoured=[(1, 5), (2, 5)])
    second = tool.revoke(AUTHOR.replica_id, honoured=[(1, 3), (2, 9)])
    for order in ([first, second], [second, first]):
        add_all(known, order, at(0))
        assert [known.honoured(shelf_of(AUTHOR, birth), seq, rights) for birth, seq in ((1, 3), (1, 4), (2, 5), (2, 6))] == [
            True,
            False,
            True,
            False,
        ]


def test_a_prefix_made_critical_voids_what_gossip_wrote_there_whatever_charter_it_names() -> None:
    tool, known, old = mesh(["**"], critical=["x"])
    op = write(SHELF, ("tasks", "1"), old)
    assert known.allowed(op, SHELF)
    known.add_untrusted(charter_of(tool, 50, ["tasks/**"]), at(0))
    assert not known.allowed(op, SHELF)  # naming the old charter is no way out
    known.add_untrusted(charter_of(tool, 60, []), at(0))
    assert not known.allowed(op, SHELF)  # and a looser one later brings nothing back
    assert known.allowed(op._replace(rights=Rights(old.credential, 60)), SHELF)
    assert not known.allowed(op._replace(rights=Rights(old.credential, 50)), SHELF)
    assert not known.allowed(write(SHELF, ("x",), old), SHELF)
    assert known.allowed(write(SHELF, ("x",), Rights(old.credential, 50)), SHELF)
    assert not known.is_critical(("tasks", "1"))


def test_expiry_closes_doors_by_the_receivers_clock_and_voids_nothing() -> None:
    tool = authority()
    expires = at(100).wall // 1_000_000
    member = tool.enrol(AUTHOR, name="author", expires=expires)
    known = Directory(tool.charter)
    assert known.admit(AUTHOR.public_key, member.presentation, at(99.9)) == AUTHOR.replica_id
    assert known.admission(AUTHOR.replica_id, at(100)) is Admission.EXPIRED
    assert known.expired(at(99.9)) == []
    assert known.expired(at(100)) == [AUTHOR.replica_id]
    assert known.admit(AUTHOR.public_key, member.presentation, at(100)) is None
    assert known.drops == {"expired": 1}
    rights = known.rights(AUTHOR.replica_id)
    assert rights is not None
    assert known.void_ops(SHELF, 10**6, rights, [write(SHELF, ("a",), rights)]) == 0
    known.add_untrusted(tool.reissue("author", expires=None), at(100))
    assert known.admit(AUTHOR.public_key, member.presentation, at(100)) == AUTHOR.replica_id


def test_as_many_shelves_can_be_honoured_as_promised() -> None:
    tool, known, rights = mesh(["**"])
    pairs = [((1 << 32) - 1 - birth, (1 << 63) - 1) for birth in range(HONOURED_MAX)]
    known.add_untrusted(tool.revoke("author", honoured=pairs), at(0))
    assert all(known.honoured(shelf_id(AUTHOR.replica_id, birth), 10**9, rights) for birth, _ in pairs)


PATHS: list[Path] = [("a", "1"), ("a", "2"), ("b",), ("tasks", "1"), (b"a", "1")]


@given(st.randoms(use_true_random=False))
def test_void_ops_is_what_the_statements_say_op_by_op(rng: random.Random) -> None:
    """Against the rules spelled out: honoured place, own origin, known serials, not critical, both patterns after a narrowing."""
    tool, known, first = mesh(["a/**", "b"], critical=["tasks/**"])
    narrowed = rng.random() < 0.5
    known.add_untrusted(tool.reissue("author", may_write=["a/1", "tasks/**"], honoured=[(1, 5)] if narrowed else None), at(0))
    second = known.rights(AUTHOR.replica_id)
    assert second is not None
    allowed_paths: dict[Rights, set[Path]] = {first: {("a", "1"), ("a", "2"), ("b",)}, second: {("a", "1")}}
    rights, seq = rng.choice([first, second]), rng.randrange(1, 10)
    ops: list[Op] = []
    for index in range(rng.randrange(6)):
        kind = rng.choice([VALUE, VALUE, REMOVED, DROPPED])
        ops.append(write(SHELF, rng.choice(PATHS), rng.choice([first, second]), seq=seq, index=index, kind=kind))

    def counts(op: Op) -> bool:
        if narrowed and rights == first and seq > 5:
            return False
        if op.kind == DROPPED:
            return True
        launderable = narrowed and op.rights == first and seq > 5
        return op.path in allowed_paths[op.rights] and (not launderable or op.path in allowed_paths[rights])

    assert known.void_ops(SHELF, seq, rights, ops) == sum(1 << index for index, op in enumerate(ops) if not counts(op))
