"""Invites: joining without anybody online, and what becomes of a token that is used twice."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdt.ops import Rights
from mesh.errors import ConfigError
from mesh.events import InviteReused
from mesh.trust import Authority, Directory, Identity, KeyState, Membership, Verdict, read_token, redeem
from mesh.trust.armour import armour, unarmour
from mesh.trust.contest import SETTLED_SECONDS, UNWITNESSED_MAX, WITNESSES_MAX
from mesh.trust.membership import present
from mesh.trust.statements import Enrolment, Terms, Witness, issue, statement_from_bytes_untrusted, statement_id
from mesh.trust.token import PREFIX, write_token
from mesh.wire import cbor
from mesh.wire.limits import CREDENTIAL_BYTES_MAX
from tests.trust.world import START_WALL, Node, add_all, at, authority, entropy, exchange, identity, shelf_of, write

NEW, OTHER, THIEF = identity("new"), identity("other"), identity("thief")
LATER = SETTLED_SECONDS + 1


def members(tool: Authority, count: int) -> list[Node]:
    nodes = [Node(tool.enrol(identity(("member", i)), name=f"m{i}")) for i in range(count)]
    exchange(nodes, at(0))
    return nodes


def token_of(tool: Authority, name: str | None = "guest", **arguments: object) -> str:
    return tool.invite(name, entropy=entropy(("invite", name)), **arguments)  # type: ignore[arg-type]


# --- tokens


def test_a_token_is_one_line_that_says_it_all() -> None:
    tool = authority(critical=["tasks/**"])
    token = token_of(
        tool,
        may_write=["guests/*"],
        voter=True,
        score=3,
        expires=START_WALL + 60,
        addresses=[("10.0.0.7", 7946), ("mesh.example", 1)],
    )
    assert token.startswith("mesh1-")
    assert token.isascii()
    assert "\n" not in token
    assert len(token) < 800
    read = read_token(token)
    assert read.charter == tool.charter
    assert read.mesh.mesh_id == tool.mesh_id
    assert read.addresses == (("10.0.0.7", 7946), ("mesh.example", 1))
    assert read.invitation.terms == Terms("guest", ("guests/*",), True, 3, None)
    assert read.invitation.redeem_by == START_WALL + 60
    assert read.invite_identity.seed.hex() not in repr(read)


def test_a_token_survives_what_terminals_do_to_it() -> None:
    token = token_of(authority())
    wrapped = "  " + "\n".join(token[i : i + 80] for i in range(0, len(token), 80)) + "\r\n"
    assert read_token(wrapped) == read_token(token)


def test_damaged_and_foreign_tokens_are_refused_in_one_line() -> None:
    token = token_of(authority())
    rng = random.Random(1)
    bad = [
        "",
        "mesh1-",
        "hello",
        token[:-1],
        token[1:],
        token + "A",
        token.replace("mesh1-", "mesh2-"),
        token.replace("mesh1-", "MESH1-"),
        token[:50] + "?" + token[51:],
        armour(PREFIX, b""),
        armour(PREFIX, cbor.encode([1, 2, 3])),
        armour(PREFIX, cbor.encode([b"", b"", bytes(32), []])),
        armour(PREFIX, bytes(10_000)),
    ]
    for _ in range(100):
        at_byte = rng.randrange(len(PREFIX), len(token))
        bad.append(token[:at_byte] + rng.choice("ABCxyz012-_") + token[at_byte + 1 :])
    for text in bad:
        if text == token:
            continue
        with pytest.raises(ConfigError) as refused:
            read_token(text)
        assert "\n" not in str(refused.value)
        assert "token" in str(refused.value) or "charter" in str(refused.value)


def test_a_token_forged_with_a_right_checksum_is_refused() -> None:
    tool, other = authority(), authority("other")
    read, alien = read_token(token_of(tool)), read_token(token_of(other, "alien"))
    addresses: list[object] = [["h", 1]]
    forged = {
        "another's charter": [alien.charter, read.invite, read.invite_identity.seed, addresses],
        "another's invite": [read.charter, alien.invite, alien.invite_identity.seed, addresses],
        "another secret": [read.charter, read.invite, alien.invite_identity.seed, addresses],
        "no invite": [read.charter, read.charter, read.invite_identity.seed, addresses],
        "short secret": [read.charter, read.invite, bytes(31), addresses],
        "port 0": [read.charter, read.invite, read.invite_identity.seed, [["h", 0]]],
        "port true": [read.charter, read.invite, read.invite_identity.seed, [["h", True]]],
        "long host": [read.charter, read.invite, read.invite_identity.seed, [["h" * 256, 1]]],
        "nine addresses": [read.charter, read.invite, read.invite_identity.seed, [["h", 1]] * 9],
        "text": [read.charter, read.invite, read.invite_identity.seed, "h:1"],
    }
    for name, parts in forged.items():
        text = armour(PREFIX, cbor.encode(parts))
        with pytest.raises(ConfigError) as refused:
            read_token(text)
        assert "\n" not in str(refused.value), name
    for addresses_wrong in ([("h", 1)] * 9, [("", 1)], [("h", 65536)]):
        with pytest.raises(ConfigError, match="address"):
            write_token(read.charter, read.invite, read.invite_identity, addresses_wrong)


def test_the_largest_invite_still_opens_a_session() -> None:
    """Invite and enrolment go in the first datagram."""
    tool = authority()
    patterns = [f"robots/{number:02}/**" for number in range(64)]
    fitting = 0
    for count in range(64):
        with contextlib.suppress(ConfigError):
            token = tool.invite(may_write=patterns[:count], expires=10**12, member_expires=10**12)
            fitting = count
            assert len(redeem(token, NEW, name="x" * 64).presentation) <= CREDENTIAL_BYTES_MAX
    assert fitting > 30
    with pytest.raises(ConfigError, match="fewer or shorter patterns"):
        tool.invite(may_write=patterns[: fitting + 1], expires=10**12, member_expires=10**12)


# --- joining


def test_joining_takes_nobody_but_the_token() -> None:
    tool = authority()
    token = token_of(tool, may_write=["guests/**"], score=2, addresses=[("h", 1)])
    member = redeem(token, NEW)
    assert (member.name, member.seeds, member.mesh_id, member.replica_id) == ("guest", (("h", 1),), tool.mesh_id, NEW.replica_id)
    host, guest = Node(tool.enrol(OTHER, name="host")), Node(member)
    assert host.admits(member, at(0))
    assert guest.admits(host.membership, at(0))
    grant = host.directory.credential(NEW.replica_id)
    assert grant is not None
    assert (grant.name, grant.terms.may_write, grant.terms.score) == ("guest", ("guests/**",), 2)
    rights = host.directory.rights(NEW.replica_id)
    assert rights == guest.directory.rights(NEW.replica_id)
    assert rights is not None
    shelf = shelf_of(member)
    assert (
        host.directory.void_ops(shelf, 1, rights, [write(shelf, ("guests", "a"), rights), write(shelf, ("b",), rights)]) == 0b10
    )
    exchange([host, guest], at(0))
    assert host.directory.digest == guest.directory.digest


def test_an_agent_names_itself_only_when_nobody_did() -> None:
    tool = authority()
    named, free = token_of(tool), token_of(tool, None)
    with pytest.raises(ConfigError, match="made out to 'guest'"):
        redeem(named, NEW, name="boss")
    assert redeem(named, NEW, name="guest").name == "guest"
    with pytest.raises(ConfigError, match="name"):
        redeem(free, NEW, name="a/b")
    assert redeem(free, NEW, name="me").name == "me"
    assert redeem(free, NEW).name == f"agent-{NEW.replica_id.hex()[:8]}"
    for name in ("me", None):
        member = redeem(free, NEW, name=name)
        known = Directory(tool.charter)
        known.restore(member.statements)
        assert known.name(NEW.replica_id) == member.name
    # Made by hand: the name that the authority gave is the one that counts.
    read = read_token(token_of(tool, "fixed"))
    known = Directory(tool.charter)
    add_all(known, [read.invite, issue(Enrolment(NEW.public_key, "boss"), read.invite_identity, tool.mesh_id)], at(0))
    assert known.name(NEW.replica_id) == "fixed"


def test_a_credential_alone_is_taken_where_its_issuer_is_known() -> None:
    tool = authority()
    node, direct = Node(tool.enrol(OTHER, name="host")), tool.enrol(NEW, name="direct")
    assert node.directory.admit(NEW.public_key, direct.credential, at(0)) == NEW.replica_id
    guest = redeem(token_of(tool), THIEF)
    assert node.directory.admit(THIEF.public_key, guest.credential, at(0)) is None
    assert node.directory.admit(THIEF.public_key, guest.presentation, at(0)) == THIEF.replica_id
    assert node.directory.admit(THIEF.public_key, guest.credential, at(0)) == THIEF.replica_id


# --- the door


def test_what_strangers_present_is_checked() -> None:
    tool, elsewhere = authority(), authority("elsewhere")
    node = members(tool, 2)[0]
    guest = redeem(token_of(tool), NEW)
    ids = node.directory.ids()
    assert guest.invite is not None
    mine = tool.certify(identity("mine").public_key, name="mine")
    revocation = tool.revoke("m1", honoured=[])
    forged = bytearray(guest.credential)
    forged[-1] ^= 1
    cases: dict[str, tuple[Identity, bytes]] = {
        "an enrolment without its invite": (NEW, guest.credential),
        "nothing": (THIEF, b""),
        "junk": (THIEF, b"\xff" * 50),
        "an empty list": (THIEF, present([])),
        "no statements": (THIEF, cbor.encode([1, 2])),
        "too many": (THIEF, present([guest.invite] * 5)),
        "another's enrolment": (THIEF, guest.presentation),
        "another's credential": (THIEF, mine),
        "an altered enrolment": (NEW, present([guest.invite, bytes(forged)])),
        "a revocation": (THIEF, present([revocation])),
        "of another mesh": (THIEF, elsewhere.enrol(THIEF, name="x").presentation),
        "an invite alone": (THIEF, present([guest.invite])),
    }
    for name, (who, presentation) in cases.items():
        before = node.directory.drops.total()
        assert node.directory.admit(who.public_key, presentation, at(0)) is None, name
        assert node.directory.drops.total() == before + 1, name
    assert node.directory.public_key(THIEF.replica_id) is None
    assert node.directory.public_key(identity("mine").replica_id) is None
    assert not node.directory.revoked(identity(("member", 1)).replica_id)
    assert set(node.directory.ids()).difference(ids) == {statement_id(guest.invite)}  # the authority's word, whoever brings it
    assert node.events == []


def test_members_are_told_apart_by_key_not_by_what_they_present() -> None:
    """A replayed presentation is worth nothing without the key that it is about."""
    tool = authority()
    node, victim = members(tool, 2)
    assert node.directory.admit(THIEF.public_key, victim.membership.presentation, at(0)) is None
    assert node.directory.drops == {"not a member": 1}


def test_an_invite_that_ran_out_lets_nobody_in_and_keeps_who_is_in() -> None:
    tool = authority()
    token = token_of(tool, expires=START_WALL + 10)
    early, late = redeem(token, NEW, wall=at(9).wall), redeem(token_of(tool, "late", expires=START_WALL + 10), OTHER)
    node, peer = members(tool, 2)
    assert node.admits(early, at(9))
    assert node.admits(early, at(11))
    assert not node.admits(late, at(10))
    assert node.directory.drops == {"invite expired": 1}
    # Anti-entropy judges no time, else sets would never be equal again.
    exchange([node, peer], at(1000))
    assert peer.directory.digest == node.directory.digest
    assert peer.admits(early, at(1000))
    with pytest.raises(ConfigError, match="expired"):
        redeem(token, NEW, wall=at(10).wall)


def test_a_second_use_is_refused_by_all_who_know_the_first_and_reported_once() -> None:
    tool = authority()
    token = token_of(tool)
    nodes = members(tool, 3)
    first = redeem(token, NEW)
    assert nodes[0].admits(first, at(0))
    exchange(nodes, at(0))
    for attempt in range(5):
        thief = redeem(token, identity(("thief", attempt)))
        for node in nodes:
            assert not node.admits(thief, at(LATER))
            assert node.directory.public_key(thief.replica_id) is None
    for node in nodes:
        assert node.told(InviteReused) == [InviteReused("guest", NEW.replica_id, identity(("thief", 0)).replica_id)]
        assert node.directory.drops == {"invite used by another key": 5}
        assert node.admits(first, at(LATER))
        assert node.admits(redeem(token, NEW), at(LATER))  # the same key again is no second use
    assert exchange(nodes, at(LATER)) == 0  # nothing of the thief got into any set


def test_only_who_holds_the_token_can_raise_the_alarm() -> None:
    tool = authority()
    node = members(tool, 1)[0]
    member = redeem(token_of(tool), NEW)
    assert node.admits(member, at(0))
    forged = bytearray(redeem(token_of(tool, "guest2"), THIEF).credential)
    forged[8:16] = statement_from_bytes_untrusted(member.credential).issuer  # the kid of the invite that is used
    assert node.directory.admit(THIEF.public_key, bytes(forged), at(0)) is None
    assert node.events == []


# --- contests: both enrolments are in the set


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
    for node in nodes:
        assert node.directory.digest == nodes[0].directory.digest
        assert node.admits(first, at(LATER))
        assert not any(node.admits(thief, at(LATER)) for thief in thieves[:10])
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


def test_checksums_belong_to_their_prefix() -> None:
    text = armour("mesha-", b"content")
    assert unarmour("mesha-", text, "it") == b"content"
    with pytest.raises(ConfigError, match="checksum"):
        unarmour("meshb-", text.replace("mesha-", "meshb-"), "it")
