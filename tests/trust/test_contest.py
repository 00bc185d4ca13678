"""One invite in several hands: which enrolment counts, everywhere alike, whoever lies."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from crdt.ops import Rights
from mesh.events import InviteReused
from mesh.trust import Directory, KeyState, Membership, Verdict, read_token, redeem
from mesh.trust.contest import UNWITNESSED_MAX, WITNESSES_MAX
from mesh.trust.statements import Enrolment, Witness, issue, statement_from_bytes_untrusted, statement_id
from tests.trust.world import (
    LATER,
    NEW,
    OTHER,
    THIEF,
    Node,
    add_all,
    at,
    authority,
    exchange,
    identity,
    members,
    shelf_of,
    token_of,
)


def settled(nodes: Sequence[Node], first: Membership) -> None:
    """The mesh has known the first enrolment for long."""
    assert nodes[0].admits(first, at(0))
    exchange(nodes, at(0))


def grind(token: str, below: bytes) -> Membership:
    """A key whose enrolment has a lower id than another's: the thief tries until it has one."""
    for attempt in range(1000):
        member = redeem(token, identity(("ground", attempt)))
        if statement_id(member.credential) < below:
            return member
    raise AssertionError("no such key in 1,000 tries")


def test_a_thief_who_finds_a_member_that_was_away_loses_when_it_comes_back() -> None:
    tool = authority()
    token = token_of(tool)
    nodes = members(tool, 6)
    first, away = redeem(token, NEW), nodes[5]
    settled(nodes[:5], first)
    thief = grind(token, statement_id(first.credential))
    assert away.admits(thief, at(LATER))  # it knows nothing of the first
    exchange(nodes, at(2 * LATER))
    for node in nodes:
        assert node.directory.digest == nodes[0].directory.digest
        assert node.admits(first, at(2 * LATER))
        assert not node.admits(thief, at(2 * LATER))
        rights = node.directory.rights(NEW.replica_id)
        assert rights is not None
        assert node.directory.verdict(shelf_of(first), 1, rights) is Verdict.HONOURED
        assert node.directory.verdict(shelf_of(thief), 1, rights) is Verdict.VOID  # what the thief wrote meanwhile
        keys = (NEW.replica_id, thief.replica_id)
        # The one that was away held the thief for the first when it was told.
        assert node.told(InviteReused) in ([InviteReused("guest", *keys)], [InviteReused("guest", *keys[::-1])])
        assert {info.state for info in node.directory.keys(at(0)) if info.public_key == thief.identity.public_key} == {
            KeyState.REFUSED
        }


def test_hostile_members_cannot_oust_one_as_long_as_they_are_fewer() -> None:
    tool = authority()
    token = token_of(tool)
    nodes = members(tool, 10)
    first = redeem(token, NEW)
    settled(nodes, first)
    thief = grind(token, statement_id(first.credential))
    invite = statement_from_bytes_untrusted(first.credential).issuer
    hostile = nodes[:3]
    lies = [issue(Witness(invite, thief.identity.public_key), node.membership.identity, tool.mesh_id) for node in hostile]
    for node in nodes[3:]:
        add_all(node.directory, [*thief.statements, *lies], at(LATER))
    exchange(nodes[3:], at(LATER))
    for node in nodes[3:]:
        assert node.admits(first, at(LATER))
        assert not node.admits(thief, at(LATER))


def test_witnesses_of_contested_or_revoked_members_do_not_count() -> None:
    """Else every stolen token would bring its own voices."""
    tool = authority()
    token, used = token_of(tool), token_of(tool, "used")
    nodes = members(tool, 3)
    first = redeem(token, NEW)
    settled(nodes, first)
    thief = grind(token, statement_id(first.credential))
    invite = statement_from_bytes_untrusted(first.credential).issuer
    puppets = [redeem(used, identity(("puppet", i))) for i in range(2)]
    revoked = [tool.enrol(identity(("revoked", i)), name=f"revoked{i}") for i in range(4)]
    lies = [issue(Witness(invite, thief.identity.public_key), each.identity, tool.mesh_id) for each in (*puppets, *revoked)]
    raws = [raw for each in (*puppets, *revoked, thief) for raw in each.statements]
    raws += [tool.revoke(each.name, honoured=[]) for each in revoked]
    add_all(nodes[0].directory, [*raws, *lies], at(LATER))
    exchange(nodes, at(LATER))
    for node in nodes:
        assert node.admits(first, at(LATER))


def test_a_member_has_one_voice() -> None:
    tool = authority()
    token = token_of(tool)
    nodes = members(tool, 3)
    first = redeem(token, NEW)
    settled(nodes, first)
    thief = redeem(token, THIEF)
    invite = statement_from_bytes_untrusted(first.credential).issuer
    liar = nodes[0].membership.identity
    both = [issue(Witness(invite, key), liar, tool.mesh_id) for key in (NEW.public_key, THIEF.public_key)]
    for order in (both, both[::-1]):
        known = Directory(tool.charter)
        add_all(known, [*first.statements, *thief.statements, nodes[0].membership.credential, *order], at(0))
        assert known.ids() == sorted(known.ids())
        assert sum(statement_id(raw) in known.ids() for raw in both) == 1
        kept = min(both, key=statement_id)
        winner = statement_from_bytes_untrusted(kept).content
        assert isinstance(winner, Witness)
        assert known.public_key(NEW.replica_id if winner.public_key == NEW.public_key else THIEF.replica_id) is not None


def test_two_uses_at_once_end_alike_everywhere() -> None:
    """A token pasted on two machines within the minute: nobody can say who was first, all choose alike."""
    tool = authority()
    token = token_of(tool)
    nodes = members(tool, 4)
    one, two = redeem(token, NEW), redeem(token, OTHER)
    assert nodes[0].admits(one, at(0))
    assert nodes[3].admits(two, at(0))
    exchange(nodes, at(1))
    winner, loser = sorted((one, two), key=lambda each: statement_id(each.credential))
    for node in nodes:
        assert node.admits(winner, at(1))
        assert not node.admits(loser, at(1))
        assert len(node.told(InviteReused)) == 1
        assert not any(isinstance(statement_from_bytes_untrusted(raw).content, Witness) for raw in node.directory.statements())


def test_who_learns_both_from_its_own_disk_witnesses_nothing() -> None:
    tool = authority()
    token = token_of(tool)
    node = members(tool, 1)[0]
    statements = [*redeem(token, NEW).statements, *redeem(token, OTHER).statements]
    assert node.directory.restore(statements) == []
    assert len(node.directory.ids()) == 5  # charter, own credential, invite, two enrolments


def test_a_restart_forgets_no_first_use() -> None:
    tool = authority()
    token = token_of(tool)
    node = members(tool, 1)[0]
    assert node.admits(redeem(token, NEW), at(0))
    again = Node(node.membership)
    assert again.directory.restore(node.directory.take_added()) == []
    assert not again.admits(redeem(token, THIEF), at(1))
    add_all(again.directory, redeem(token, THIEF).statements, at(1))  # known from the disk: settled, so it speaks
    contents = [statement_from_bytes_untrusted(raw).content for raw in again.directory.statements()]
    assert [each.public_key for each in contents if isinstance(each, Witness)] == [NEW.public_key]


def test_a_flood_of_enrolments_by_one_token_leaves_two_and_the_first() -> None:
    tool = authority()
    token = token_of(tool)
    nodes = members(tool, 3)
    first = redeem(token, NEW)
    settled(nodes, first)
    thieves = [redeem(token, identity(("flood", i))) for i in range(60)]
    for node in nodes:
        order = thieves[:]
        random.Random(node.membership.name).shuffle(order)
        add_all(node.directory, [raw for each in order for raw in each.statements], at(LATER))
    exchange(nodes, at(LATER))
    enrolments = [
        raw for raw in nodes[0].directory.statements() if isinstance(statement_from_bytes_untrusted(raw).content, Enrolment)
    ]
    assert 2 <= len(enrolments) <= UNWITNESSED_MAX + 1
    rights = nodes[0].directory.rights(NEW.replica_id)
    assert rights is not None
    for node in nodes:
        assert node.directory.digest == nodes[0].directory.digest
        assert node.admits(first, at(LATER))
        assert not any(node.admits(thief, at(LATER)) for thief in thieves[:10])
        verdicts = [node.directory.verdict(shelf_of(thief), 1, rights) for thief in thieves]
        assert verdicts == [nodes[0].directory.verdict(shelf_of(thief), 1, rights) for thief in thieves]
        assert Verdict.HONOURED not in verdicts
        assert len(node.told(InviteReused)) == 1


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_replicas_that_exchange_statements_agree_whoever_said_what_to_whom(rng: random.Random) -> None:
    """Two tokens in many hands, liars, a revocation, members that were away: afterwards one answer everywhere."""
    tool = authority()
    tokens = [token_of(tool, "one"), token_of(tool, "two")]
    nodes = members(tool, 5)
    uses = [redeem(rng.choice(tokens), identity(("user", i))) for i in range(rng.randrange(2, 9))]
    for number, use in enumerate(uses):
        now = at(number * rng.choice([1, LATER]))
        for node in rng.sample(nodes, rng.randrange(1, 5)):
            if rng.random() < 0.5:
                node.admits(use, now)
            else:
                add_all(node.directory, use.statements, now)
        if rng.random() < 0.5:
            invite = statement_from_bytes_untrusted(use.credential).issuer
            liar = rng.choice([*(node.membership for node in nodes), *uses]).identity
            lie = issue(Witness(invite, rng.choice(uses).identity.public_key), liar, tool.mesh_id)
            add_all(rng.choice(nodes).directory, [lie], now)
        if rng.random() < 0.3:
            exchange(rng.sample(nodes, 2), now)
    if rng.random() < 0.5:
        add_all(rng.choice(nodes).directory, [tool.revoke(f"m{rng.randrange(5)}", honoured=[])], at(0))
    exchange(nodes, at(1000))
    for node in nodes:
        again = Directory(tool.charter)
        assert again.restore(node.directory.statements()) == []  # a restart changes nothing
        assert again.digest == node.directory.digest == nodes[0].directory.digest
        assert node.directory.keys(at(0)) == nodes[0].directory.keys(at(0))
        for use in uses:
            assert node.directory.credential(use.replica_id) == nodes[0].directory.credential(use.replica_id)
    assert (
        sum(
            nodes[0].directory.credential(use.replica_id) is not None for use in {each.replica_id: each for each in uses}.values()
        )
        <= 2
    )


def test_no_more_witnesses_are_kept_than_a_contest_needs() -> None:
    tool = authority()
    token = token_of(tool)
    invite = statement_from_bytes_untrusted(redeem(token, NEW).credential).issuer
    voters = [tool.enrol(identity(("voter", i)), name=f"v{i}") for i in range(WITNESSES_MAX + 20)]
    voices = [issue(Witness(invite, NEW.public_key), each.identity, tool.mesh_id) for each in voters]
    base = [*redeem(token, NEW).statements, *redeem(token, THIEF).statements, *(each.credential for each in voters)]
    digests = set()
    for seed in range(3):
        random.Random(seed).shuffle(voices)
        known = Directory(tool.charter)
        add_all(known, [*base, *voices], at(0))
        kept = [raw for raw in known.statements() if isinstance(statement_from_bytes_untrusted(raw).content, Witness)]
        assert len(kept) == WITNESSES_MAX
        digests.add(known.digest)
        assert known.rights(NEW.replica_id) == Rights(read_token(token).invitation.serial, 1)
    assert len(digests) == 1
    # A member whose voice would not be kept does not raise it.
    full = Directory(tool.charter)
    add_all(full, [*base, *voices], at(0))
    ranks = {statement_from_bytes_untrusted(raw).issuer for raw in full.statements()}
    silent = next(each for each in voters if each.replica_id not in ranks)
    node = Node(silent)
    assert node.directory.restore([*redeem(token, NEW).statements, *(each.credential for each in voters)]) == []
    add_all(node.directory, voices, at(LATER))
    add_all(node.directory, redeem(token, THIEF).statements, at(LATER))
    assert node.directory.digest == full.digest


def test_witnesses_of_no_invite_are_not_taken_into_the_set() -> None:
    tool = authority()
    node = members(tool, 1)[0]
    before = node.directory.digest
    for number in range(10):
        lie = issue(Witness(bytes([number] * 8), NEW.public_key), node.membership.identity, tool.mesh_id)
        assert node.directory.add_untrusted(lie, at(0)) is None
    assert node.directory.digest == before


def test_who_is_contested_itself_is_no_witness_and_leaves_no_voice_behind() -> None:
    """Its enrolment may leave the set, and then those who have it could check its voice and the others could not."""
    tool = authority()
    token, used = token_of(tool), token_of(tool, "used")
    invite = statement_from_bytes_untrusted(redeem(token, NEW).credential).issuer
    puppet = redeem(used, identity("puppet"))
    voice = issue(Witness(invite, THIEF.public_key), puppet.identity, tool.mesh_id)
    rivals = [grind(used, statement_id(puppet.credential))]
    rivals += [redeem(used, identity(("rival", i))) for i in range(5)]
    raws = [redeem(token, NEW).statements[1], voice, *(raw for each in (puppet, *rivals) for raw in each.statements[1:])]
    digests = set()
    for seed in range(20):
        random.Random(seed).shuffle(raws)
        known = Directory(tool.charter)
        for _ in range(2):
            add_all(known, raws, at(0))
        assert known.raw(statement_id(voice)) is None
        digests.add(known.digest)
    restored = Directory(tool.charter)
    assert restored.restore(raws) == []  # nothing to complain of: a store still holds the voice that left the set
    assert digests == {restored.digest}
    early = Directory(tool.charter)
    add_all(early, [redeem(token, NEW).statements[1], *puppet.statements, voice], at(0))
    assert early.raw(statement_id(voice)) is not None  # before anybody contests it, it counts
    add_all(early, raws * 2, at(0))
    assert early.digest in digests


def test_an_enrolment_that_lived_by_a_lost_voice_goes_with_all_its_rights() -> None:
    tool = authority()
    token, used = token_of(tool), token_of(tool, "used")
    by_id = sorted((redeem(token, identity(("user", i))) for i in range(3)), key=lambda each: statement_id(each.credential))
    last, invite = by_id[2], statement_from_bytes_untrusted(by_id[0].credential).issuer
    puppet = redeem(used, identity("puppet"))
    voice = issue(Witness(invite, last.identity.public_key), puppet.identity, tool.mesh_id)
    known = Directory(tool.charter)
    add_all(known, [*puppet.statements, by_id[0].statements[1], voice, *(each.credential for each in by_id)], at(0))
    assert known.public_key(last.replica_id) is not None
    assert known.raw(statement_id(last.credential)) is not None
    add_all(known, [redeem(used, identity("rival")).credential], at(0))
    assert known.public_key(last.replica_id) is None
    assert known.raw(statement_id(last.credential)) is None
    assert known.public_key(by_id[0].replica_id) is not None


def test_a_revoked_member_regains_no_voice_by_a_used_token() -> None:
    tool = authority()
    token, used = token_of(tool), token_of(tool, "used")
    low, high = sorted((redeem(token, NEW), redeem(token, OTHER)), key=lambda each: statement_id(each.credential))
    revoked = tool.enrol(identity("revoked"), name="revoked")
    ending = tool.revoke("revoked", honoured=[])
    newer = token_of(tool, "newer")  # of a higher serial than the revocation
    invite = statement_from_bytes_untrusted(low.credential).issuer
    voice = issue(Witness(invite, high.identity.public_key), revoked.identity, tool.mesh_id)
    known = Directory(tool.charter)
    add_all(known, [*low.statements, *high.statements, revoked.credential, ending, voice], at(0))
    for stolen in (used, newer):
        for user in (identity("honest"), revoked.identity):
            add_all(known, redeem(stolen, user).statements, at(0))
    assert known.public_key(low.replica_id) is not None
    assert known.public_key(high.replica_id) is None


def test_the_authority_has_the_last_word_in_a_contest() -> None:
    tool = authority()
    token = token_of(tool)
    nodes = members(tool, 3)
    one, two = redeem(token, NEW), redeem(token, OTHER)
    settled(nodes, one)
    add_all(nodes[2].directory, two.statements, at(LATER))
    exchange(nodes, at(LATER))
    tool.observe_untrusted(nodes[0].directory.statements())
    raws = [tool.revoke(NEW.replica_id, honoured=[(1, 5)]), tool.certify(OTHER.public_key, name="second")]
    add_all(nodes[0].directory, raws, at(LATER))
    exchange(nodes, at(LATER))
    for node in nodes:
        assert not node.admits(one, at(LATER))
        assert node.admits(two, at(LATER))
        assert node.directory.name(OTHER.replica_id) == "second"
