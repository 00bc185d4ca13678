"""A member lets others in below its own rights, and never further."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdt.ids import shelf_id
from crdt.ops import Rights
from mesh.errors import ConfigError, Refused
from mesh.trust import Admission, Authority, Directory, Identity, Membership, Verdict, redeem
from mesh.trust.delegation import PROOF_PURPOSE
from mesh.trust.letting_in import let_in
from mesh.trust.statements import DELEGATIONS_MAX, Enrolment, Invite, Revocation, Terms, issue, statement_from_bytes_untrusted
from mesh.wire import cbor
from mesh.wire.cose import to_be_signed
from tests.trust.world import START_WALL, Node, add_all, at, authority, entropy, exchange, identity, signed

ARM = identity("arm")


def robot(tool: Authority, **terms: Any) -> Node:
    terms = {"may_write": ["robots/7/**"], "delegates": 2, **terms}
    return Node(tool.enrol(identity("robot"), name="robot", **terms))


def token_of(node: Node, *may_write: str, name: str | None = "arm", **terms: Any) -> str:
    me = node.membership
    token, raw = let_in(
        node.directory, me.charter, me.identity, name, may_write=may_write, entropy=entropy(("t", name, may_write)), **terms
    )
    node.directory.add_untrusted(raw, at(0))
    return token


def arm_of(node: Node, *may_write: str, key: Identity = ARM, **terms: Any) -> Membership:
    member = redeem(token_of(node, *(may_write or ("robots/7/arm/**",)), **terms), key)
    assert node.directory.admit(key.public_key, member.presentation, at(1)) == key.replica_id
    return member


def forged(by: Identity, tool: Authority, serial: int, terms: Terms, key: Identity, *, holder: Identity | None = None) -> bytes:
    """A delegation of any content, which no tool of ours would make."""
    invite = Invite(serial, key.public_key, terms, None, by.replica_id)
    message = to_be_signed(cbor.encode([by.replica_id, serial]), PROOF_PURPOSE, tool.mesh_id)
    return issue(invite._replace(proof=(holder or key).sign(message)), by, tool.mesh_id)


def test_a_delegate_writes_within_its_delegators_rights_and_no_further() -> None:
    tool = authority()
    node, other = robot(tool), Node(tool.enrol(identity("other"), name="other"))
    member = arm_of(node)
    exchange([node, other], at(2))
    for known in (node.directory, other.directory, Node(member).directory):
        rights = known.rights(ARM.replica_id)
        assert rights is not None
        assert known.may_write(ARM.replica_id, rights, ("robots", "7", "arm", "angle"))
        assert not known.may_write(ARM.replica_id, rights, ("robots", "7", "pose"))
        assert known.verdict(shelf_id(ARM.replica_id, 1), 1, rights) is Verdict.HONOURED
        assert known.name(ARM.replica_id) == "arm"
        grant = known.credential(ARM.replica_id)
        assert grant is not None
        assert (grant.terms.voter, grant.terms.score) == (False, 0)


@pytest.mark.parametrize(
    ("may_write", "terms", "complaint"),
    [
        (["robots/8/**"], {}, "not all of it is within"),
        (["robots/**"], {}, "not all of it is within"),
        (["**"], {}, "not all of it is within"),
        (["robots/7/arm/**"], {"delegates": 2}, "one level less"),
        (["robots/7/arm/**"], {"expires": START_WALL + 2_000}, "no later"),
    ],
)
def test_what_is_not_narrower_is_an_error_at_the_delegator(may_write: list[str], terms: dict[str, Any], complaint: str) -> None:
    node = robot(authority(), expires=START_WALL + 1_000)
    with pytest.raises(ConfigError, match=complaint):
        token_of(node, *may_write, **terms)


def test_who_may_not_delegate_is_told_how_it_could() -> None:
    with pytest.raises(ConfigError, match="--delegates 1"):
        token_of(robot(authority(), delegates=0), "robots/7/arm/**")


@pytest.mark.parametrize(
    "terms",
    [
        Terms("arm", ("**",), False, 0, START_WALL + 1_000, 0),
        Terms("arm", ("robots/7/arm", "robots/8"), False, 0, START_WALL + 1_000, 0),
        Terms("arm", ("robots/7/arm",), True, 0, START_WALL + 1_000, 0),
        Terms("arm", ("robots/7/arm",), False, 9, START_WALL + 1_000, 0),
        Terms("arm", ("robots/7/arm",), False, 0, START_WALL + 1_001, 0),
        Terms("arm", ("robots/7/arm",), False, 0, None, 0),
        Terms("arm", ("robots/7/arm",), False, 0, START_WALL + 1_000, 2),
    ],
)
def test_what_a_hostile_delegator_signs_all_the_same_gives_nothing(terms: Terms) -> None:
    tool = authority()
    node, key = robot(tool, expires=START_WALL + 1_000), identity("key")
    grant = node.directory.credential(node.replica)
    assert grant is not None
    add_all(
        node.directory,
        [
            forged(node.membership.identity, tool, grant.serial, terms, key),
            issue(Enrolment(ARM.public_key, None), key, tool.mesh_id),
        ],
        at(0),
    )
    assert node.directory.rights(ARM.replica_id) is None
    assert node.directory.admission(ARM.replica_id, at(0)) is Admission.UNKNOWN


def test_nobody_delegates_by_a_key_that_is_anothers() -> None:
    """A hostile member would narrow, or put out, whoever redeemed the invite."""
    tool = authority()
    node = robot(tool)
    hostile = Node(tool.enrol(identity("hostile"), name="hostile", delegates=2))
    member = arm_of(node)
    exchange([node, hostile], at(2))
    assert member.invite is not None
    invite = statement_from_bytes_untrusted(member.invite).content
    assert isinstance(invite, Invite)
    key = invite.invite_key
    terms = Terms("x", ("robots/7/arm/**",), False, 0, None, 0)
    grant = hostile.directory.credential(hostile.replica)
    assert grant is not None
    fake = Invite(grant.serial, key, terms, None, hostile.replica, bytes(64))
    with pytest.raises(Refused, match="another's"):
        node.directory.add_untrusted(issue(fake, hostile.membership.identity, tool.mesh_id), at(3))
    assert node.directory.rights(member.replica_id) is not None


def test_a_delegate_delegates_and_the_levels_end() -> None:
    tool = authority()
    node = robot(tool)
    arm = Node(arm_of(node, delegates=1))
    exchange([node, arm], at(1))
    gripper = Node(redeem(token_of(arm, "robots/7/arm/gripper", name="gripper"), identity("gripper")))
    assert gripper.directory.rights(gripper.replica) is not None, "its token tells it all that it needs"
    with pytest.raises(ConfigError, match="may not let others in"):
        token_of(gripper, "robots/7/arm/gripper", name="finger")
    exchange([node, arm, gripper], at(2))
    assert node.directory.below(node.replica) == [arm.replica, gripper.replica]
    assert node.admits(gripper.membership, at(3))


def test_revoking_the_delegator_takes_its_delegates_with_it() -> None:
    tool = authority()
    node = robot(tool)
    arm = Node(arm_of(node, delegates=1))
    exchange([node, arm], at(1))
    gripper = Node(redeem(token_of(arm, "robots/7/arm/gripper", name="gripper"), identity("gripper")))
    exchange([node, arm, gripper], at(2))
    rights = gripper.directory.rights(gripper.replica)
    assert rights is not None
    tool.observe_untrusted(node.directory.statements())
    spared = tool.revoke(arm.replica, honoured=[(1, 5)])
    revoked = tool.revoke(node.replica, honoured=[(1, 9)])
    known = node.directory
    add_all(known, [spared, revoked], at(3))
    for who in (node, arm, gripper):
        assert known.revoked(who.replica)
        assert not node.admits(who.membership, at(4))
    assert known.verdict(shelf_id(arm.replica, 1), 5, rights) is Verdict.HONOURED, "by the list of its own"
    assert known.verdict(shelf_id(arm.replica, 1), 6, rights) is Verdict.VOID
    assert known.verdict(shelf_id(gripper.replica, 1), 1, rights) is Verdict.VOID, "without one: nothing"


def test_a_delegator_whose_rights_are_narrowed_has_to_let_them_in_anew() -> None:
    tool = authority()
    node = robot(tool)
    arm_of(node)
    tool.observe_untrusted(node.directory.statements())
    narrowed = tool.reissue(node.replica, may_write=["robots/7/pose"], honoured=[(1, 3)])
    node.directory.add_untrusted(narrowed, at(2))
    assert node.directory.revoked(ARM.replica_id)
    assert not node.directory.revoked(node.replica)


def test_rights_end_with_the_delegators_own() -> None:
    tool = authority()
    node = robot(tool, expires=START_WALL + 100)
    member = arm_of(node)
    assert node.admits(member, at(99))
    assert not node.admits(member, at(100))
    tool.observe_untrusted(node.directory.statements())
    node.directory.add_untrusted(tool.reissue(node.replica, expires=START_WALL + 50), at(2))
    assert node.admits(member, at(49))
    assert not node.admits(member, at(50))


@pytest.mark.parametrize("listed", [True, False])
def test_after_a_rotation_only_what_the_closing_lists_counts(listed: bool) -> None:
    """Else the thief of the former key could let in whom he likes."""
    tool = authority()
    node = robot(tool)
    old = node.membership.identity
    grant = node.directory.credential(node.replica)
    assert grant is not None
    if listed:
        arm_of(node)
    new = identity("robot's next").of_replica(node.replica)
    node.directory.add_untrusted(tool.rotate(node.replica, new.public_key), at(1))
    node.directory.become(new)
    assert node.directory.close_former_keys(new, [(1, 1)], at(2))
    if not listed:
        key, terms = identity("key"), Terms("arm", ("robots/7/arm/**",), False, 0, None, 0)
        raws = [forged(old, tool, grant.serial, terms, key), issue(Enrolment(ARM.public_key, None), key, tool.mesh_id)]
        add_all(node.directory, raws, at(3))
    assert (node.directory.rights(ARM.replica_id) is not None) is listed


def test_a_delegators_name_for_somebody_takes_no_precedence() -> None:
    tool = authority()
    node = robot(tool)
    tool.observe_untrusted(node.directory.statements())
    later = tool.enrol(identity("pump"), name="pump")
    token = token_of(node, "robots/7/arm", name="pump")
    node.directory.add_untrusted(later.credential, at(0))
    member = redeem(token, ARM)
    assert node.directory.admit(ARM.public_key, member.presentation, at(1)) == ARM.replica_id
    assert node.directory.named("pump") == [identity("pump").replica_id, ARM.replica_id]
    assert node.directory.name(ARM.replica_id).startswith("pump~")


def history(rng: random.Random) -> tuple[Authority, list[bytes], list[Any]]:
    """Three levels, contests of delegated invites, too many delegations, revocations at every level."""
    tool = authority()
    robot, arms, guests = identity("robot"), [identity(("arm", i)) for i in range(3)], [identity(("guest", i)) for i in range(3)]
    raws = [tool.certify(robot.public_key, name="robot", may_write=["r/**"], delegates=2)]
    serial = tool.directory.serial_max
    below = Terms("arm", ("r/a/**",), False, 0, None, 1)
    for number in range(rng.choice([3, 3, DELEGATIONS_MAX + 2])):
        key = identity(("key", number))
        raws.append(forged(robot, tool, serial, below._replace(may_write=rng.choice([("r/a/**",), ("r",), ("x",)])), key))
        for arm in rng.sample(arms, rng.choice([1, 1, 2])) if number < 4 else ():
            raws.append(issue(Enrolment(arm.public_key, None), key, tool.mesh_id))
    for number, arm in enumerate(arms):
        key = identity(("deep", number))
        raws.append(forged(arm, tool, serial, Terms(None, ("r/a/b",), False, 0, None, 0), key))
        raws.append(issue(Enrolment(rng.choice(guests).public_key, None), key, tool.mesh_id))
    for number, who in enumerate(rng.sample([robot, *arms, *guests], rng.randrange(3))):
        raws.append(signed(tool, Revocation(serial + 1 + number, who.replica_id, ((1, 2),))))
    return tool, raws, [each.replica_id for each in (robot, *arms, *guests)]


def everything_said(known: Directory, everybody: list[Any]) -> object:
    said: list[object] = [known.digest, known.ids(), known.keys(at(0)), known.replicas()]
    for replica in everybody:
        said += [known.public_key(replica), known.revoked(replica), known.rights(replica), known.below(replica)]
        for serial in range(5):
            rights = Rights(serial, 1)
            said += [known.may_write(replica, rights, path) for path in (("r",), ("r", "a", "b"), ("x",))]
            said += [known.verdict(shelf_id(replica, 1), seq, rights) for seq in (2, 3)]
    return said


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(seed: int, order: random.Random) -> None:
    tool, raws, everybody = history(random.Random(seed))
    first, other = Directory(tool.charter), Directory(tool.charter)
    for known, times in ((first, 1), (other, 2)):
        shuffled = raws * times
        order.shuffle(shuffled)
        for _ in range(3):  # what waited for too long is offered again
            add_all(known, shuffled, at(0))
    assert everything_said(other, everybody) == everything_said(first, everybody)


def test_the_histories_contain_what_they_are_meant_to() -> None:
    seen: set[str] = set()
    for seed in range(30):
        tool, raws, everybody = history(random.Random(seed))
        known = Directory(tool.charter)
        add_all(known, raws, at(0))
        seen.update(info.state.value for info in known.keys(at(0)))
        seen.add(f"{len(known.below(everybody[0]))} below")
    assert {"member", "revoked", "refused"} <= seen
    assert {"4 below", "5 below"} & seen
