"""Statements on the wire: one encoding each, nothing else taken."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import ConfigError, Malformed, Refused
from mesh.trust import STATEMENT_BYTES_MAX, Authority, Directory, Limits
from mesh.trust.identity import key_id
from mesh.trust.limits import SERIAL_MAX
from mesh.trust.statements import (
    PURPOSE,
    Charter,
    Closing,
    Content,
    Credential,
    Enrolment,
    Invite,
    Opaque,
    Revocation,
    Terms,
    Witness,
    charter_from_bytes,
    issue,
    statement_from_bytes_untrusted,
)
from mesh.wire import cbor, cose
from tests.trust.world import at, authority, entropy, identity

serials = st.integers(1, SERIAL_MAX)
keys = st.binary(min_size=32, max_size=32)
texts = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=12)
patterns = st.lists(st.sampled_from(["a", "a/**", "*/b", "robots/7/**"]), max_size=4).map(tuple)
honoured = st.lists(st.tuples(st.integers(0, 2**32 - 1), serials), max_size=40, unique_by=lambda pair: pair[0]).map(
    lambda pairs: tuple(sorted(pairs))
)
expires = st.none() | serials
terms = st.builds(Terms, texts, patterns, st.booleans(), st.integers(0, 15), expires, st.integers(0, 3))
contents: st.SearchStrategy[Content] = st.one_of(
    st.builds(
        Charter,
        serials,
        st.just(authority().mesh_id),
        st.lists(keys, min_size=1, max_size=8, unique_by=key_id).map(tuple),
        patterns,
        st.builds(Limits, serials, st.dictionaries(st.sampled_from(["x_max", "a"]), serials)),
        st.none() | keys,
        st.just(1),
    ),
    st.builds(
        Charter,
        serials,
        st.just(authority().mesh_id),
        st.lists(keys, min_size=3, max_size=8, unique_by=key_id).map(tuple),
        patterns,
        st.just(Limits()),
        st.none() | keys,
        st.integers(2, 3),
    ),
    st.builds(Credential, serials, keys, terms, st.none() | honoured, st.none() | st.binary(min_size=8, max_size=8)),
    st.builds(Closing, serials, honoured, st.just((bytes(8), bytes(7) + b"1"))),
    st.builds(Invite, serials, keys, terms, expires, st.binary(min_size=8, max_size=8), st.binary(min_size=64, max_size=64)),
    st.builds(Invite, serials, keys, terms, expires, st.none(), st.just(b"")),
    st.builds(Enrolment, keys, st.none() | texts),
    st.builds(Revocation, serials, st.binary(min_size=8, max_size=8), honoured),
    st.builds(Witness, st.binary(min_size=8, max_size=8), keys),
)


@given(contents)
def test_what_is_issued_reads_back(content: Content) -> None:
    raw = issue(content, identity("signer"), authority().mesh_id)
    statement = statement_from_bytes_untrusted(raw)
    assert statement.content == content
    assert statement.issuer == identity("signer").replica_id
    assert len(raw) <= STATEMENT_BYTES_MAX


def test_any_byte_altered_is_malformed_or_refused() -> None:
    """Every bit of every kind of statement: what still parses does not verify."""
    tool = authority(critical=["tasks/**"])
    token_key, member = identity("invite"), identity("member")
    base = [
        issue(Invite(8, token_key.public_key, Terms(None, ("a/**",), False, 3, 99), 77), tool.identity, tool.mesh_id),
        tool.certify(member.public_key, name="member"),
    ]
    raws = [
        *base,
        issue(Enrolment(identity("x").public_key, "x"), token_key, tool.mesh_id),
        issue(Revocation(9, member.replica_id, ((1, 5),)), tool.identity, tool.mesh_id),
        issue(Witness(token_key.replica_id, identity("x").public_key), member, tool.mesh_id),
        issue(Charter(10, tool.mesh_id, (tool.identity.public_key,), (), Limits()), tool.identity, tool.mesh_id),
    ]
    for raw in raws:
        known = Directory(tool.charter)
        assert known.restore(base) == []
        digest = known.digest
        for bit in range(len(raw) * 8):
            altered = bytearray(raw)
            altered[bit // 8] ^= 1 << bit % 8
            with contextlib.suppress(Malformed, Refused):
                assert known.add_untrusted(bytes(altered), at(0)) is None
                # Taken without complaint is only what names a key that nobody has: it waits for it.
                assert names_unknown_key(bytes(altered), raw)
        assert known.digest == digest
        assert known.add_untrusted(raw, at(0)) is not None or raw in base


def names_unknown_key(altered: bytes, raw: bytes) -> bool:
    was, is_now = statement_from_bytes_untrusted(raw), statement_from_bytes_untrusted(altered)
    if isinstance(was.content, Witness) and isinstance(is_now.content, Witness):
        return (was.issuer, was.content.invite) != (is_now.issuer, is_now.content.invite)
    return was.issuer != is_now.issuer


@given(st.binary(max_size=200))
def test_noise_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        statement_from_bytes_untrusted(raw)


def sign_payload(tool: Authority, payload: object, purpose: bytes = PURPOSE, mesh_id: bytes | None = None) -> bytes:
    return cose.sign1(
        tool.identity.sign, cbor.encode(payload), kid=tool.identity.replica_id, purpose=purpose, mesh_id=mesh_id or tool.mesh_id
    )


KEY = identity("k").public_key


def credential_fields(**others: object) -> list[object]:
    """A sound credential but for these fields."""
    fields = {
        "serial": 3,
        "public_key": KEY,
        "name": "name",
        "may_write": ["**"],
        "voter": False,
        "score": 0,
        "expires": None,
        "delegates": 0,
        "honoured": None,
        "replica": None,
    }
    assert others.keys() <= fields.keys()
    return [1, 2, *(fields | others).values()]


def test_the_fields_that_are_spoilt_below_are_sound() -> None:
    tool = authority()
    assert Directory(tool.charter).add_untrusted(sign_payload(tool, credential_fields()), at(0)) is not None


@pytest.mark.parametrize(
    "payload",
    [
        [],
        [1],
        {"format": 1},
        [0, 2, 3],
        [1, 2, 3],
        credential_fields()[:-1],
        [*credential_fields(), None],
        credential_fields(serial=0),
        credential_fields(serial=-1),
        credential_fields(serial=1 << 63),
        credential_fields(serial=True),
        credential_fields(public_key=KEY[:31]),
        credential_fields(name=None),
        credential_fields(name=""),
        credential_fields(name="a\nb"),
        credential_fields(name="\x1b[2J"),
        credential_fields(name="a/b"),
        credential_fields(name="x" * 65),
        credential_fields(name=b"name"),
        credential_fields(may_write="**"),
        credential_fields(may_write=[b"**"]),
        credential_fields(may_write=["a**"]),
        credential_fields(may_write=["**"] * 65),
        credential_fields(voter=1),
        credential_fields(score=16),
        credential_fields(score=-1),
        credential_fields(score=1.0),
        credential_fields(expires=0),
        credential_fields(honoured=[[2, 1], [1, 1]]),
        credential_fields(honoured=[[1, 1], [1, 2]]),
        credential_fields(honoured=[[1 << 32, 1]]),
        credential_fields(honoured=[[1, 0]]),
        credential_fields(honoured=[[1, 1, 1]]),
        credential_fields(honoured=[[True, 1]]),
        credential_fields(replica=bytes(7)),
        credential_fields(delegates=4),
        credential_fields(delegates=-1),
        credential_fields(delegates=True),
        [1, 8, 3, [[1, 0]], []],
        [1, 8, 0, [], []],
        [1, 8, 3, [], [bytes(7)]],
        [1, 8, 3, [], [bytes(8), bytes(8)]],
        [1, 5, 3, KEY, []],
        [1, 4, KEY, ""],
        [1, 7, KEY, KEY],
        [1, 1, 1, bytes(16), [], [], {"value_bytes_max": 1}, None],
        [1, 1, 1, bytes(16), [KEY, KEY], [], {"value_bytes_max": 1}, None],
        [1, 1, 1, bytes(15), [KEY], [], {"value_bytes_max": 1}, None],
        [1, 1, 1, bytes(16), [KEY], [], {}, None],
        [1, 1, 1, bytes(16), [KEY], [], {"value_bytes_max": 0}, None],
        [1, 1, 1, bytes(16), [KEY], [], {"value_bytes_max": "1"}, None],
        [1, 1, 1, bytes(16), [KEY], [], {b"value_bytes_max": 1}, None],
    ],
)
def test_payloads_that_nobody_may_send_even_signed(payload: object) -> None:
    tool = authority()
    with pytest.raises(Malformed):
        Directory(tool.charter).add_untrusted(sign_payload(tool, payload), at(0))


def test_statements_too_long_for_a_datagram_are_not_made_and_not_taken() -> None:
    tool = authority()
    with pytest.raises(ConfigError, match="fit into a datagram"):
        tool.certify(KEY, name="x", may_write=["x" * 200 + str(i) for i in range(6)])
    payload = [1, 99, "x" * STATEMENT_BYTES_MAX]
    with pytest.raises(Malformed, match="at most 1024"):
        Directory(tool.charter).add_untrusted(sign_payload(tool, payload), at(0))


def test_a_statement_of_another_purpose_is_void() -> None:
    """A signature that the authority made for something else must never become a statement."""
    tool = authority()
    payload = [1, 5, 3, bytes(8), []]
    for purpose in (b"", b"delta", PURPOSE + b" ", PURPOSE[:-1], PURPOSE + tool.mesh_id):
        with pytest.raises(Refused, match="signature"):
            Directory(tool.charter).add_untrusted(sign_payload(tool, payload, purpose), at(0))
    assert Directory(tool.charter).add_untrusted(sign_payload(tool, payload), at(0))


def test_a_statement_of_another_mesh_is_void() -> None:
    """Same authority key, another mesh: an operator who copied the key."""
    tool = authority()
    twin = entropy("other mesh", 16)
    with pytest.raises(Refused, match="another mesh"):
        Directory(tool.charter).add_untrusted(sign_payload(tool, [1, 5, 3, bytes(8), []], mesh_id=twin), at(0))
    payload = [1, 1, 9, twin, [tool.identity.public_key], [], {"value_bytes_max": 1}, None]
    with pytest.raises(Refused, match="another mesh"):
        Directory(tool.charter).add_untrusted(sign_payload(tool, payload), at(0))


@pytest.mark.parametrize("payload", [[1, 60, 3, "in a later version"], [2, 2, "credentials of format 2"], [1, 200, {"x": [1]}]])
def test_what_a_later_version_says_is_kept_and_passed_on(payload: list[object]) -> None:
    tool = authority()
    known = Directory(tool.charter)
    raw = sign_payload(tool, payload)
    statement = known.add_untrusted(raw, at(0))
    assert statement is not None
    assert statement.content == Opaque(payload[0], payload[1])  # type: ignore[arg-type]
    assert known.raw(statement.id) == raw
    forged = bytearray(raw)
    forged[-1] ^= 1
    with pytest.raises(Refused):
        known.add_untrusted(bytes(forged), at(0))


def test_a_charter_stands_on_its_own_signature() -> None:
    tool = authority()
    good = tool.charter
    assert charter_from_bytes(good).authorities == (tool.identity.public_key,)
    rng = random.Random(1)
    for _ in range(200):
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= rng.randrange(1, 256)
        with pytest.raises(ConfigError):
            charter_from_bytes(bytes(bad))
    stranger = Charter(1, tool.mesh_id, (tool.identity.public_key,), (), Limits())
    with pytest.raises(ConfigError, match="signature"):
        charter_from_bytes(issue(stranger, identity("stranger"), tool.mesh_id))
    with pytest.raises(ConfigError, match="credential"):
        charter_from_bytes(tool.certify(KEY, name="x"))


def test_limits_are_positive_and_unknown_ones_survive() -> None:
    with pytest.raises(ConfigError, match="value_bytes_max is 0"):
        Limits(0)
    raw = issue(Charter(1, bytes(16), (identity("a").public_key,), (), Limits(5, {"later_max": 7})), identity("a"), bytes(16))
    assert charter_from_bytes(raw).limits == Limits(5, {"later_max": 7})
