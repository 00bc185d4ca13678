"""An authority of several keys: as many as the threshold must sign, in whatever order, and nothing else counts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.errors import ConfigError, Malformed, Refused
from mesh.testing import open_mesh
from mesh.trust import Authority, Directory, Identity, redeem
from mesh.trust.countersigning import Proposal, countersign, describe, draft, missing, read_proposal, says, write_proposal
from mesh.trust.files import import_proposal, init_dir, load_authority, open_authority
from mesh.trust.handing_over import hand_over
from mesh.trust.limits import Limits
from mesh.trust.membership import present
from mesh.trust.proposals import keep_token, load, path_of, sign
from mesh.trust.statements import (
    Charter,
    Credential,
    Genesis,
    Handover,
    Revocation,
    Terms,
    Witness,
    charter_from_bytes,
    issue,
    statement_from_bytes_untrusted,
    statement_id,
)
from mesh.trust.token import with_invite
from mesh.wire import cose
from tests.trust.world import Node, add_all, at, entropy, exchange, identity, members

A, NEW = identity("a"), identity("new")
TERMS = Terms("sybil", ("**",), False, 0, None)


def several(threshold: int = 2, keys: int = 3, recovery: bytes | None = None) -> Authority:
    return Authority.generate(
        threshold=threshold, keys=keys, recovery=recovery, entropy=random.Random(7).randbytes(32 * keys + 16)
    )


def root(tool: Authority) -> Charter:
    return charter_from_bytes(tool.charter)


def at_hand(tool: Authority, *numbers: int) -> Authority:
    """The same authority where only some of its keys are."""
    return Authority([tool.identities[each] for each in numbers], tool.charter, tool.statements)


def by(tool: Authority, content: Credential | Revocation | Genesis, *numbers: int) -> bytes:
    """A statement signed by these keys, in this order."""
    raw = draft(content, [], root(tool))
    for each in numbers:
        raw = countersign(raw, tool.identities[each], root(tool))
    return raw


def test_with_all_keys_at_hand_it_works_as_one() -> None:
    tool = several()
    nodes = members(tool, 3)
    raw = tool.revoke("m2", honoured=[])
    assert not tool.proposed
    assert missing(raw, root(tool)) == 0
    add_all(nodes[0].directory, [raw], at(1))
    exchange(nodes, at(2))
    assert all(node.directory.revoked(nodes[2].replica) for node in nodes)
    guest = Node(redeem(tool.invite("guest", entropy=entropy("guest")), identity("guest")))
    assert nodes[0].admits(guest.membership, at(3))


def test_one_key_of_one_is_as_it_was_on_the_wire() -> None:
    """The charter's bytes of before there were thresholds."""
    tool = Authority.generate(entropy=entropy("mesh", 48))
    signed = cose.open1_untrusted(tool.charter)
    assert signed.payload.endswith(b"\xf6"), "recovery: null, and nothing behind it"
    raw = tool.certify(A.public_key, name="a")
    assert raw == issue(statement_from_bytes_untrusted(raw).content, tool.identity, tool.mesh_id)


def test_the_format_is_cose_sign() -> None:
    """Held against another reader: RFC 9052 section 4.1."""
    import cbor2

    tool = several()
    raw = tool.certify(A.public_key, name="a")
    tagged = cbor2.loads(raw)
    protected, unprotected, payload, signatures = tagged.value
    assert (tagged.tag, protected, unprotected, len(signatures)) == (98, b"", {}, 2)
    for own, kid, signature in signatures:
        assert cbor2.loads(own) == {1: -8}
        signer = next(each for each in tool.identities if each.replica_id == kid[4])
        to_sign = cbor2.dumps(["Signature", protected, own, b"gossipmesh statement" + tool.mesh_id, payload])
        assert signer.sign(to_sign) == signature
    assert cose.assemble_several(cose.open_several_untrusted(raw)) == raw


def test_fewer_keys_make_a_statement_that_others_finish() -> None:
    tool = several()
    (node,) = members(tool, 1)
    one, two = at_hand(tool, 0), at_hand(tool, 2)
    raw = one.revoke("m0", honoured=[])
    assert (one.proposed, missing(raw, root(tool))) == ([raw], 1)
    assert not one.directory.revoked(node.replica)
    with pytest.raises(Malformed, match="two signatures or more"):
        node.directory.add_untrusted(raw, at(1))
    assert one.revoke("m0", honoured=[]) != raw, "a serial that is proposed is not given again"
    assert one.countersign(raw) == raw, "the same key does not count twice"
    done = two.countersign(raw)
    assert missing(done, root(tool)) == 0
    assert two.directory.revoked(node.replica)
    assert node.directory.add_untrusted(done, at(1)) is not None
    assert node.directory.revoked(node.replica)


def test_nobody_needs_a_key_to_propose() -> None:
    tool = several()
    raw = at_hand(tool).certify(A.public_key, name="a")
    for number in (1, 0):
        raw = at_hand(tool, number).countersign(raw)
    (node,) = members(tool, 1)
    assert node.directory.add_untrusted(raw, at(1)) is not None
    with pytest.raises(ConfigError, match="2 of the authority's keys must sign"):
        at_hand(tool, 0).enrol(NEW, name="new")
    with pytest.raises(ConfigError, match="missing"):
        Authority([], Authority.generate().charter)


@pytest.mark.parametrize("threshold", [2, 3])
def test_too_few_or_foreign_signatures_are_refused(threshold: int) -> None:
    tool = several(threshold, 4)
    (node,) = members(tool, 1)
    content = Credential(99, NEW.public_key, TERMS, None)
    before = node.directory.digest
    whole = cose.open_several_untrusted(by(tool, content, *range(threshold)))
    foreign = identity("foreign")
    message = cose.to_be_signed_by_several(whole.payload, b"gossipmesh statement", tool.mesh_id)
    by_foreign = (foreign.replica_id, foreign.sign(message))
    fourth = (tool.identities[3].replica_id, tool.identities[3].sign(message))
    wrong = (whole.signatures[0][0], whole.signatures[1][1])
    bad = {
        "one key alone": issue(content, tool.identities[0], tool.mesh_id),
        "a signature stripped": cose.assemble_several(whole._replace(signatures=whole.signatures[:-1])),
        "one more than asked for": cose.assemble_several(whole._replace(signatures=(*whole.signatures, fourth))),
        "a foreign key": cose.assemble_several(whole._replace(signatures=(*whole.signatures[:-1], by_foreign))),
        "another's signature": cose.assemble_several(whole._replace(signatures=(wrong, *whole.signatures[1:]))),
        "the same key twice": cose.assemble_several(whole._replace(signatures=(whole.signatures[0],) * threshold)),
    }
    for raw in bad.values():
        with pytest.raises((Refused, Malformed)):
            node.directory.add_untrusted(raw, at(1))
        fresh = Directory(tool.charter)
        assert fresh.admit(NEW.public_key, present([raw]), at(1)) is None
    assert node.directory.digest == before
    assert node.directory.waiting == 0, "forged ones wait nowhere, or they would keep the true one out"
    assert node.directory.add_untrusted(cose.assemble_several(whole), at(2)) is not None


def test_signers_out_of_order_are_malformed() -> None:
    tool = several()
    whole = by(tool, Credential(9, NEW.public_key, TERMS, None), 0, 1)
    start = len(cose.signed_part(whole)) + 1
    one, other = whole[start : start + cose.SIGNER_BYTES], whole[start + cose.SIGNER_BYTES :]
    with pytest.raises(Malformed, match="ascending"):
        cose.open_several_untrusted(whole[:start] + other + one)
    assert by(tool, Credential(9, NEW.public_key, TERMS, None), 1, 0) == whole, "whoever signs first, one form"


def test_every_altered_bit_is_refused_or_the_same_statement() -> None:
    tool = several()
    raw = tool.certify(A.public_key, name="a")
    for at_bit in random.Random(1).sample(range(len(raw) * 8), 400):
        altered = bytearray(raw)
        altered[at_bit // 8] ^= 1 << at_bit % 8
        with pytest.raises((Malformed, Refused)):
            Directory(tool.charter).add_untrusted(bytes(altered), at(1))


def test_signatures_move_neither_to_nor_from_a_single_one() -> None:
    tool = several()
    whole = cose.open_several_untrusted(tool.certify(A.public_key, name="a"))
    kid, signature = whole.signatures[0]
    assert not cose.verify1(
        cose.Sign1(kid, whole.payload, signature), tool.identities[0].public_key, b"gossipmesh statement", tool.mesh_id
    )


def test_only_what_is_the_authoritys_may_bear_several_signatures() -> None:
    tool = several()
    (node,) = members(tool, 1)
    witness = cose.open1_untrusted(issue(Witness(bytes(8), A.public_key), tool.identity, tool.mesh_id)).payload
    handover = Handover(99, tool.mesh_id, NEW.public_key, None, ())
    for payload in (witness, cose.open1_untrusted(issue(handover, tool.identity, tool.mesh_id)).payload):
        raw = cose.assemble_several(cose.Sign(payload, ()))
        for number in (0, 1):
            raw = countersign(raw, tool.identities[number], root(tool))
        with pytest.raises(Refused, match="not the authority's"):
            node.directory.add_untrusted(raw, at(1))
    with pytest.raises(Refused, match="neither the authority"):
        node.directory.add_untrusted(issue(handover, tool.identity, tool.mesh_id), at(1))


def test_which_keys_signed_makes_no_difference() -> None:
    """Else two choices of signers would be two statements, and two halves of the mesh might hold one each for ever."""
    tool = several()
    one, two = members(tool, 2)
    content = Revocation(50, one.replica, ())
    first, second = by(tool, content, 0, 1), by(tool, content, 1, 2)
    assert first != second
    assert statement_id(first) == statement_id(second)
    assert one.directory.add_untrusted(first, at(1)) is not None
    assert two.directory.add_untrusted(second, at(1)) is not None
    assert one.directory.digest == two.directory.digest
    assert exchange([one, two], at(2)) == 0
    assert one.directory.add_untrusted(second, at(3)) is None


def test_a_genesis_is_one_whoever_signed_it() -> None:
    """The quorum's first block names it by its hash."""
    tool = several()
    one, two = members(tool, 2)
    content = Genesis(60, 3, A.public_key, bytes(16))
    add_all(one.directory, [by(tool, content, 0, 1)], at(1))
    add_all(two.directory, [by(tool, content, 0, 2)], at(1))
    assert one.directory.genesis() == two.directory.genesis()
    assert one.directory.genesis_raw() != two.directory.genesis_raw()


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(seed: int, order: random.Random) -> None:
    """Statements by several choices of signers, forged ones, a recovery perhaps: replicas that heard them otherwise agree."""
    rng = random.Random(seed)
    recovery = identity("recovery")
    tool = several(recovery=recovery.public_key)
    raws = [tool.certify(identity(("m", number)).public_key, name=f"m{number}") for number in range(3)]
    contents: list[Credential | Revocation | Genesis] = [
        Revocation(20, identity(("m", 0)).replica_id, ()),
        Credential(21, identity(("m", 1)).public_key, TERMS, ()),
        Credential(22, NEW.public_key, TERMS, None),
        Genesis(23, 2, A.public_key, bytes(16)),
    ]
    for content in contents:
        for _ in range(rng.randrange(3)):
            raws.append(by(tool, content, *rng.sample(range(3), 2)))
        raws.append(issue(content, tool.identities[rng.randrange(3)], tool.mesh_id))
    if rng.random() < 0.5:
        honest = Directory(tool.charter)
        honest.restore(rng.sample(raws, len(raws) // 2))
        raws += hand_over(honest, recovery, identity("next"), identity("recovery 2").public_key)
    found = []
    for _ in range(2):
        known, shuffled = Directory(tool.charter), list(raws)
        order.shuffle(shuffled)
        for raw in shuffled * 3:
            try:
                known.add_untrusted(raw, at(0))
            except Refused:
                continue
        found.append((known.digest, known.keys(at(0)), known.genesis(), known.authority_key))
        restored = Directory(tool.charter)
        restored.restore(known.statements())
        assert restored.digest == known.digest
    assert found[0] == found[1]


def test_the_recovery_key_replaces_all_of_them() -> None:
    recovery = identity("recovery")
    tool = several(recovery=recovery.public_key)
    nodes = members(tool, 2)
    raws = hand_over(tool.directory, recovery, identity("next"), identity("recovery 2").public_key)
    add_all(nodes[0].directory, raws, at(1))
    exchange(nodes, at(2))
    for node in nodes:
        assert node.directory.authority_key == identity("next").public_key
        assert all(node.directory.rights(each.replica) is not None for each in nodes)
        with pytest.raises(Refused, match="replaced"):
            node.directory.add_untrusted(by(tool, Credential(99, NEW.public_key, TERMS, None), 0, 1), at(3))
    following = Authority(identity("next"), tool.charter, nodes[0].directory.statements())
    assert nodes[0].directory.add_untrusted(following.certify(NEW.public_key, name="new"), at(4)) is not None


def test_a_charter_lacking_signatures_is_no_root() -> None:
    tool = several()
    content = root(tool)
    one = issue(content, tool.identities[0], tool.mesh_id)
    half = draft(content, tool.identities[:1], content)
    for raw in (one, half):
        with pytest.raises(ConfigError, match=r"does not fit|not a charter"):
            Directory(raw)
    for threshold, keys in ((1, 3), (2, 1), (3, 2), (0, 1), (2, 9)):
        with pytest.raises(ConfigError, match="of"):
            Authority.generate(threshold=threshold, keys=keys)


def test_a_later_charter_changes_neither_keys_nor_threshold() -> None:
    tool = several()
    (node,) = members(tool, 1)
    add_all(node.directory, [tool.amend(limits=Limits(7))], at(1))
    weaker = root(tool)._replace(serial=40, threshold=1)
    raw = draft(weaker, tool.identities, root(tool))
    add_all(node.directory, [raw], at(1))
    with pytest.raises(Refused, match="as many keys"):
        node.directory.add_untrusted(issue(Credential(99, NEW.public_key, TERMS, None), tool.identity, tool.mesh_id), at(2))


# --- proposals


def test_a_proposal_is_one_line_and_says_what_it_wants() -> None:
    tool = several()
    members(tool, 1)
    raw = at_hand(tool, 0).revoke("m0", honoured=[])
    line = write_proposal(Proposal(tool.charter, (raw,)))
    assert read_proposal(line, "x") == Proposal(tool.charter, (raw,))
    told = describe(says(raw), lambda key: tool.directory.name(key) if key in tool.directory.replicas() else None)  # type: ignore[arg-type]
    assert "revoke m0" in told
    assert "nothing that it wrote counts" in told
    parts = cose.open_several_untrusted(raw)
    forged = cose.assemble_several(parts._replace(signatures=((parts.signatures[0][0], bytes(64)),)))
    with pytest.raises(ConfigError, match="does not fit"):
        read_proposal(write_proposal(Proposal(tool.charter, (forged,))), "x")
    for junk in (line[:-7], "meshproposal1-", write_proposal(Proposal(tool.charter, ())), write_proposal(Proposal(b"x", (raw,)))):
        with pytest.raises(ConfigError):
            read_proposal(junk, "x")
    for key, why in ((identity("foreign"), "none of"), (tool.identities[0], "signed this already")):
        with pytest.raises(ConfigError, match=why):
            countersign(raw, key, root(tool))
    with pytest.raises(ConfigError, match="all the 2"):
        countersign(countersign(raw, tool.identities[1], root(tool)), tool.identities[2], root(tool))


def test_what_is_to_be_signed_is_told_in_words() -> None:
    tool = at_hand(several())
    tool.certify(A.public_key, name="a", may_write=["x/**"], voter=True, score=3, expires=99, delegates=1)
    tool.invite("guest", expires=77)
    tool.begin_quorum(A.public_key)
    tool.amend(critical=["tasks/**"])
    told = "\n".join(describe(says(raw), lambda _: None) for raw in tool.proposed)
    for words in ("as a, may write x/**, votes with score 3", "let in guest", "epoch 1", "tasks/**", "no name is known here"):
        assert words in told


def test_files_of_an_authority_of_several_keys(tmp_path: Path) -> None:
    keys, safe = tmp_path / "keys", tmp_path / "safe"
    init_dir(keys, "a", threshold=2, authority_keys=3)
    safe.mkdir()
    for number in (2, 3):
        assert (keys / f"authority-{number}.key").stat().st_mode & 0o777 == 0o600
        (keys / f"authority-{number}.key").rename(safe / f"{number}.key")
    assert len(load_authority(keys).identities) == 1
    with open_authority(keys) as authority:
        token = authority.invite("b")
    path = path_of(keys, authority.proposed)
    keep_token(path, token)
    assert path.with_suffix(".token").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="two signatures or more"):
        redeem(token, identity("b"))
    with open_authority(keys) as authority:
        authority.invite("c")
    assert path_of(keys, authority.proposed) != path, "a proposed serial is taken"
    with pytest.raises(ConfigError, match="lacks 1 of 2"):
        import_proposal(keys, load(path), ())
    signer = Identity.from_text((safe / "3.key").read_bytes(), "meshauthority1-", "3.key")
    signed = sign(path, load(path), signer)
    (finished,) = import_proposal(keys, signed, ())
    assert not path.exists()
    assert not path.with_suffix(".token").exists()
    guest = Node(redeem(finished, identity("b")))
    assert guest.directory.rights(guest.replica) is not None
    assert load_authority(keys).directory.open_invites("b")
    with pytest.raises(ConfigError, match="two signatures or more"):
        with_invite(finished, draft(says(signed.statements[0]), [], root(load_authority(keys))))


def test_two_of_three_revoke_in_a_running_mesh() -> None:
    with open_mesh(6, seed=5, threshold=2, authority_keys=3) as mesh:
        mesh.run(2.0)
        victim = mesh.memberships[3].replica_id
        alone = at_hand(mesh.authority, 1)
        raw = alone.revoke(victim, honoured=[])
        for forged in (raw, issue(says(raw), alone.identity, alone.mesh_id)):
            with pytest.raises((Refused, Malformed)):
                mesh.peer(0).directory.add_untrusted(forged, mesh.hosts[0].now())
        mesh.peer(0).directory.add_untrusted(at_hand(mesh.authority, 2).countersign(raw), mesh.hosts[0].now())
        mesh.hosts[0].wake()
        mesh.run(1.0)
        assert all(mesh.peer(number).directory.revoked(victim) for number in range(6))
