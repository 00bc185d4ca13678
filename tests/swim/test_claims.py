"""Signed sentences: which of two counts, and what is no claim at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt.ids import ReplicaId
from mesh.errors import ConfigError, Malformed
from mesh.swim.claims import (
    CLAIM_BYTES_MAX,
    META_BYTES_MAX,
    NAME_BYTES_MAX,
    PURPOSE_CLAIM,
    Accusation,
    Alive,
    Claim,
    Held,
    Left,
    Reason,
    Verdict,
    check_profile,
    claim_from_bytes_untrusted,
    outranks,
    precedence,
    seal,
    verified,
)
from mesh.wire.cbor import encode

A, B, C = (ReplicaId(bytes([letter]) * 8) for letter in b"ABC")


def sign(purpose: bytes, payload: bytes) -> bytes:
    return hashlib.blake2b(purpose + payload, digest_size=64).digest()


def verify(signer: ReplicaId, purpose: bytes, payload: bytes, signature: bytes) -> bool:
    return signer == A and purpose == PURPOSE_CLAIM and sign(purpose, payload) == signature


def alive(incarnation: int, *, birth: int = 1, host: str = "10.0.0.1", over: bytes = b"") -> Alive:
    return Alive(A, incarnation, birth, (host, 7946), "robot-1", b"", over)


def accusation(incarnation: int) -> Accusation:
    return Accusation(A, incarnation, B, 1, Reason.SILENT)


# What B believes of A at incarnation 5, and what it makes of a claim: the whole table, row by row.
TABLE = """
    alive 4   living -> stale      dead -> stale      left -> stale
    alive 5   living -> known      dead -> stale      left -> stale
    alive 6   living -> news       dead -> news       left -> news
    left  4   living -> stale      dead -> stale      left -> stale
    left  5   living -> news       dead -> news       left -> known
    left  6   living -> news       dead -> news       left -> news
    accused 4 living -> stale      dead -> stale      left -> stale
    accused 5 living -> news       dead -> news       left -> stale
    accused 6 living -> unproven   dead -> unproven   left -> unproven
"""


def test_precedence_is_this_table() -> None:
    makers: dict[str, Callable[[int], Claim]] = {"alive": alive, "left": lambda number: Left(A, number, 1), "accused": accusation}
    rows = 0
    for row in TABLE.split("\n"):
        words = row.replace("->", "").split()
        if not words:
            continue
        claim: Claim = makers[words[0]](int(words[1]))
        for held, verdict in zip(words[2::2], words[3::2], strict=True):
            assert precedence(claim, 5, Held[held.upper()]) is Verdict[verdict.upper()], (row, held)
            rows += 1
    assert rows == 27


def test_only_a_higher_incarnation_brings_somebody_back() -> None:
    for held, number in product((Held.DEAD, Held.LEFT), range(6)):
        assert precedence(alive(number), 5, held) is not Verdict.NEWS


def test_of_two_alive_claims_of_one_incarnation_all_choose_the_same() -> None:
    one, other = alive(5, birth=1), alive(5, birth=2)
    assert outranks(other, one)
    assert not outranks(one, other)
    assert not outranks(one, one)


claims = st.one_of(
    st.builds(
        Alive,
        subject=st.just(A),
        incarnation=st.integers(0, 2**32 - 1),
        birth=st.integers(0, 2**32 - 1),
        address=st.tuples(st.sampled_from(["10.0.0.1", "::1", "fe80::1", "255.255.255.255"]), st.integers(1, 65535)),
        name=st.text(max_size=16),
        meta=st.binary(max_size=META_BYTES_MAX),
        over=st.sampled_from([b"", b"12345678"]),
    ),
    st.builds(Left, subject=st.just(A), incarnation=st.integers(0, 2**32 - 1), birth=st.integers(0, 2**32 - 1)),
    st.builds(
        Accusation,
        subject=st.just(B),
        incarnation=st.integers(0, 2**32 - 1),
        accuser=st.just(A),
        standing=st.integers(0, 2**32 - 1),
        reason=st.sampled_from(Reason),
    ),
)


@given(claims)
def test_a_claim_travels_unchanged_and_its_signature_holds(claim: Claim) -> None:
    signed = seal(claim, sign)
    read = claim_from_bytes_untrusted(signed.raw)
    assert read == signed
    assert read.id == signed.id
    assert read.signer == A
    assert verified(read, verify)


@given(claims, st.data())
def test_one_flipped_bit_is_malformed_or_not_verified(claim: Claim, data: st.DataObject) -> None:
    raw = bytearray(seal(claim, sign).raw)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        read = claim_from_bytes_untrusted(bytes(raw))
    except Malformed:
        return
    assert not verified(read, verify)


@given(st.binary(max_size=200))
def test_random_bytes_are_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        claim_from_bytes_untrusted(raw)


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("no such kind", [9, A, 1]),
        ("true is not one", [True, A, 1, 1]),
        ("a host name would be looked up", [1, A, 1, 1, "example.org", 1, "n", b"", b""]),
        ("a zone is local to another machine", [1, A, 1, 1, "fe80::1%eth0", 1, "n", b"", b""]),
        ("port 0", [1, A, 1, 1, "10.0.0.1", 0, "n", b"", b""]),
        ("a short id", [2, A[:7], 1, 1]),
        ("a negative incarnation", [2, A, -1, 1]),
        ("an incarnation that would never end", [2, A, 2**32, 1]),
        ("a birth of 33 bits", [2, A, 1, 2**32]),
        ("oneself as accuser", [3, A, 1, A, 1, 0]),
        ("no such reason", [3, A, 1, B, 1, 2]),
        ("a reason that is no number", [3, A, 1, B, 1, True]),
        ("a name too long", [1, A, 1, 1, "10.0.0.1", 1, "n" * (NAME_BYTES_MAX + 1), b"", b""]),
        ("metadata too long", [1, A, 1, 1, "10.0.0.1", 1, "n", b"m" * (META_BYTES_MAX + 1), b""]),
        ("an id of another length", [1, A, 1, 1, "10.0.0.1", 1, "n", b"", b"1234"]),
        ("a field too many", [2, A, 1, 1, 1]),
    ],
)
def test_what_is_no_claim(what: str, body: list[object]) -> None:
    with pytest.raises(Malformed):
        claim_from_bytes_untrusted(encode([encode(body), bytes(64)]))


def test_the_largest_claim_fits_the_limit() -> None:
    largest = Alive(
        A,
        2**32 - 1,
        2**32 - 1,
        ("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", 65535),
        "n" * NAME_BYTES_MAX,
        bytes(128),
        bytes(8),
    )
    assert len(seal(largest, sign).raw) <= CLAIM_BYTES_MAX
    with pytest.raises(Malformed):
        claim_from_bytes_untrusted(bytes(CLAIM_BYTES_MAX + 1))


def test_a_profile_that_fits_no_claim_is_an_error_at_its_owner() -> None:
    check_profile("n" * NAME_BYTES_MAX, bytes(META_BYTES_MAX))
    with pytest.raises(ConfigError):
        check_profile("ü" * NAME_BYTES_MAX, b"")
    with pytest.raises(ConfigError):
        check_profile("", bytes(META_BYTES_MAX + 1))
