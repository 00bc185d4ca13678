"""Invites: joining without anybody online, and what becomes of a token that is used twice."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest

from consensus_escalation.anchor import Anchor
from mesh.errors import ConfigError
from mesh.events import InviteReused
from mesh.trust import Directory, Identity, load_membership, read_token, redeem, save_membership
from mesh.trust.armour import armour, unarmour
from mesh.trust.membership import present
from mesh.trust.statements import Enrolment, Terms, issue, statement_from_bytes_untrusted, statement_id
from mesh.trust.token import PREFIX, write_token
from mesh.wire import cbor
from mesh.wire.limits import CREDENTIAL_BYTES_MAX
from tests.trust.world import (
    LATER,
    NEW,
    OTHER,
    START_WALL,
    THIEF,
    Node,
    add_all,
    at,
    authority,
    entropy,
    exchange,
    identity,
    members,
    shelf_of,
    token_of,
    write,
)

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


def test_a_token_names_the_newest_block_that_its_inviter_knew(tmp_path: Path) -> None:
    tool, anchor = authority(), Anchor(1, 120, bytes(16), 7, b"c" * 16)
    token = tool.invite("guest", anchor=anchor, entropy=entropy("invite"))
    assert read_token(token).anchor == anchor
    assert len(token) < 800
    member = redeem(token, identity("guest"))
    assert member.anchor == anchor
    save_membership(tmp_path / "guest", member)
    assert load_membership(tmp_path / "guest").anchor == anchor
    (tmp_path / "guest" / "anchor").write_bytes(b"\x85")
    with pytest.raises(ConfigError, match="anchor is damaged"):
        load_membership(tmp_path / "guest")
    assert redeem(token_of(tool, "other"), identity("other")).anchor is None
    forged = write_token(
        tool.charter, read_token(token).invite, read_token(token).invite_identity, [], (), anchor._replace(index=6)
    )
    with pytest.raises(ConfigError, match="contradicts itself"):
        read_token(forged)


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


def test_checksums_belong_to_their_prefix() -> None:
    text = armour("mesha-", b"content")
    assert unarmour("mesha-", text, "it") == b"content"
    with pytest.raises(ConfigError, match="checksum"):
        unarmour("meshb-", text.replace("mesha-", "meshb-"), "it")
