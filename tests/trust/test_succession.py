"""The authority's key is replaced: nothing that counts is lost, and nothing that the former key signs counts any more."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.errors import ConfigError, Refused
from mesh.trust import Authority, Directory, Identity, redeem
from mesh.trust.handing_over import hand_over
from mesh.trust.statements import Credential, Handover, Revocation, Terms, issue
from tests.trust.world import Node, add_all, at, authority, entropy, exchange, identity, members

RECOVERY, NEXT, THIEF = identity("recovery"), identity("next authority"), identity("thief's authority")
GRANT = Terms("sybil", ("**",), False, 0, None, 0)


def with_recovery(label: object = "mesh") -> Authority:
    return Authority.generate(recovery=RECOVERY.public_key, entropy=entropy(label, 48))


def sybil(by: Identity, tool: Authority, serial: int, label: object = "sybil") -> bytes:
    return issue(Credential(serial, identity(label).public_key, GRANT, None), by, tool.mesh_id)


def test_members_go_on_and_the_new_key_lets_others_in() -> None:
    tool = authority()
    nodes = members(tool, 3)
    former = tool.identity
    tool.hand_over(NEXT)
    assert tool.identity == NEXT
    late = Node(tool.enrol(identity("late"), name="late"))
    add_all(nodes[0].directory, tool.statements, at(1))
    exchange(nodes, at(2))
    for node in nodes:
        assert node.directory.authority_key == NEXT.public_key
        assert all(node.directory.rights(other.replica) is not None for other in (*nodes, late))
        with pytest.raises(Refused, match="replaced"):
            node.directory.add_untrusted(sybil(former, tool, 99), at(3))
        with pytest.raises(Refused, match="replaced"):
            node.directory.add_untrusted(sybil(former, tool, 2), at(3))  # nor under an old serial
    exchange([*nodes, late], at(4))
    assert len({node.directory.digest for node in (*nodes, late)}) == 1


def test_what_the_former_key_signed_in_secret_leaves_the_set() -> None:
    tool = authority()
    (node,) = members(tool, 1)
    known_early = sybil(tool.identity, tool, 9)
    node.directory.add_untrusted(known_early, at(0))
    assert node.directory.rights(identity("sybil").replica_id) is not None
    tool.hand_over(NEXT)  # the tool never heard of it, so its roll does not list it
    add_all(node.directory, tool.statements, at(1))
    assert node.directory.rights(identity("sybil").replica_id) is None
    assert identity("sybil").replica_id in node.directory.take_changed()
    assert node.directory.digest == tool.directory.digest


def test_until_the_roll_is_here_what_was_signed_counts() -> None:
    """A member that has only half of it must not put everybody out."""
    tool = authority()
    (node,) = members(tool, 1)
    handover, *pages = tool.hand_over(NEXT)
    node.directory.add_untrusted(handover, at(1))
    assert node.directory.rights(node.replica) is not None
    add_all(node.directory, pages, at(1))
    assert node.directory.rights(node.replica) is not None


def test_a_newcomer_joins_by_a_token_of_the_new_key() -> None:
    tool = authority()
    nodes = members(tool, 2)
    for number in range(3):
        tool.hand_over(identity(("authority", number)))
    token = tool.invite("guest", entropy=entropy("guest"))
    guest = Node(redeem(token, identity("guest")))
    assert guest.directory.authority_key == tool.identity.public_key
    add_all(nodes[0].directory, tool.statements, at(1))
    assert nodes[0].admits(guest.membership, at(2))
    exchange([*nodes, guest], at(3))
    assert len({node.directory.digest for node in (*nodes, guest)}) == 1


def test_the_recovery_key_outranks_a_thief_that_was_first() -> None:
    tool = with_recovery()
    nodes = members(tool, 2)
    last = tool.directory.serial_max
    stolen = Directory(tool.charter)
    stolen.restore(tool.statements)
    thiefs = [sybil(tool.identity, tool, last + 1), *hand_over(stolen, tool.identity, THIEF, RECOVERY.public_key)]
    thiefs.append(sybil(THIEF, tool, last + 9, "second sybil"))
    add_all(nodes[0].directory, thiefs, at(1))
    assert nodes[0].directory.authority_key == THIEF.public_key
    known = Directory(tool.charter)
    known.restore(tool.statements)
    add_all(known, thiefs[:1], at(1))
    raws = hand_over(known, RECOVERY, NEXT, identity("recovery 2").public_key, until_serial=last)
    for order in (raws, raws[::-1]):
        node = Node(nodes[1].membership)
        add_all(node.directory, [*thiefs, *order], at(2))
        assert node.directory.authority_key == NEXT.public_key
        assert node.directory.rights(identity("sybil").replica_id) is None
        assert node.directory.rights(identity("second sybil").replica_id) is None
        assert node.directory.rights(nodes[1].replica) is not None


@pytest.mark.parametrize("changes_recovery", [True, False])
def test_who_may_not_hand_over_is_refused(changes_recovery: bool) -> None:
    """The key in force cannot take the recovery key's place, and nobody else can hand over at all."""
    tool = with_recovery()
    (node,) = members(tool, 1)
    by = tool.identity if changes_recovery else node.membership.identity
    recovery = THIEF.public_key if changes_recovery else RECOVERY.public_key
    handover = Handover(99, tool.mesh_id, THIEF.public_key, recovery, ())
    with pytest.raises(Refused, match="neither the authority nor its recovery key"):
        node.directory.add_untrusted(issue(handover, by, tool.mesh_id), at(1))
    assert node.directory.authority_key == tool.identity.public_key


def test_a_used_recovery_key_and_a_former_key_hand_nothing_over() -> None:
    tool = with_recovery()
    former = tool.identity
    known = tool.directory
    hand_over(known, RECOVERY, NEXT, identity("recovery 2").public_key)
    for by in (former, RECOVERY):
        with pytest.raises((ConfigError, Refused)):
            hand_over(known, by, THIEF, RECOVERY.public_key)
    assert known.authority_key == NEXT.public_key


def history(rng: random.Random) -> tuple[Authority, list[bytes]]:
    """An honest chain, a thief's beside it, a recovery perhaps; statements of everybody."""
    tool = with_recovery("history")
    honest = Directory(tool.charter)
    raws = [tool.certify(identity(("m", number)).public_key, name=f"m{number}") for number in range(3)]
    honest.restore(raws)
    stolen = Directory(tool.charter)
    stolen.restore(raws)
    key, recovery = tool.identity, RECOVERY
    raws += [sybil(key, tool, serial, serial) for serial in rng.sample(range(2, 9), 2)]
    if rng.random() < 0.7:
        raws += hand_over(stolen, key, THIEF, RECOVERY.public_key)
        raws.append(sybil(THIEF, tool, 50, "by thief"))
    for number in range(rng.randrange(3)):
        if rng.random() < 0.4:
            following = identity(("recovery", number))
            raws += hand_over(honest, recovery, identity(("a", number)), following.public_key, until_serial=rng.choice([None, 3]))
            recovery = following
        else:
            raws += hand_over(honest, key, identity(("a", number)), recovery.public_key)
        key = identity(("a", number))
        mine = issue(Credential(60 + number, identity(("new", number)).public_key, GRANT, None), key, tool.mesh_id)
        revoked = issue(Revocation(70 + number, identity(("m", number)).replica_id, ()), key, tool.mesh_id)
        honest.restore([mine, revoked])
        raws += [mine, revoked]
    return tool, raws


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(seed: int, order: random.Random) -> None:
    tool, raws = history(random.Random(seed))
    found = []
    for _ in range(2):
        known, shuffled = Directory(tool.charter), list(raws)
        order.shuffle(shuffled)
        for _ in range(4):  # what was refused or waited for too long is offered again, as by anti-entropy
            for raw in shuffled:
                try:
                    known.add_untrusted(raw, at(0))
                except Refused:
                    continue
        found.append((known.digest, known.authority_key, known.keys(at(0)), known.ids()))
        restored = Directory(tool.charter)
        restored.restore(known.statements())
        assert restored.digest == known.digest, "from its own disk"
    assert found[0] == found[1]


def test_the_histories_contain_what_they_are_meant_to() -> None:
    seen = set()
    for seed in range(30):
        tool, raws = history(random.Random(seed))
        known = Directory(tool.charter)
        random.Random(seed).shuffle(raws)
        for raw in raws * 3:
            try:
                known.add_untrusted(raw, at(0))
            except Refused:
                seen.add("refused")
        seen.add("thief" if known.authority_key == THIEF.public_key else f"{len(known.handovers())} handovers")
    assert {"refused", "thief", "0 handovers", "1 handovers", "2 handovers"} <= seen
