"""Deltas as bytes."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey, VerifyKey

from crdt.delta import HEADER_BYTES_MAX, NO_HASH, Delta, Header
from crdt.digest import digest_16
from crdt.ids import ReplicaId, ShelfId, shelf_id
from mesh.errors import Malformed
from mesh.wire import cbor
from mesh.wire.cose import to_be_signed
from mesh.wire.crypto import LIBSODIUM
from mesh.wire.delta import (
    BODY_BYTES_MAX,
    COSE_BYTES_MAX,
    PURPOSE,
    body_from_bytes_untrusted,
    delta_bytes,
    delta_from_bytes_untrusted,
    head_bytes,
    head_from_parts_untrusted,
    sign_header,
    verify_delta,
    verify_header,
)
from mesh.wire.packer import FRAME_BYTES_MAX

KEY = SigningKey(bytes(range(32)))
PUBLIC = bytes(KEY.verify_key)
MESH = b"mesh id, 16 byte"
REPLICA = ReplicaId(b"replica8")
SHELF = shelf_id(REPLICA, 0xCAFECAFE)
TIME = 1_800_000_000_000_000


def sign(message: bytes) -> bytes:
    return KEY.sign(message).signature


def body_of(*ops: Any) -> bytes:
    return cbor.encode([[1, 1], TIME, [], list(ops)])


POSE = body_of([0, 1, [0, "robots", "17", "pose/heading"], 1.5707963])


def raw_delta(
    body: bytes = POSE, *, seq: int = 1, prev_hash: bytes = NO_HASH, shelf: ShelfId = SHELF, gc_floor: int = 0
) -> bytes:
    header = Header(shelf, seq, prev_hash, b"d" * 16, gc_floor, digest_16(body)).encoded()
    signature = sign_header(sign, header, MESH)
    message = cbor2.CBORTag(18, [b"\xa1\x01\x27", {4: REPLICA}, header, signature])
    return cbor2.dumps(message, canonical=True) + body


def test_a_delta_comes_back() -> None:
    raw = raw_delta()
    delta = delta_from_bytes_untrusted(raw)
    assert delta.shelf == SHELF
    assert delta.seq == 1
    assert [(op.path, op.payload) for op in delta.ops] == [(("robots", "17", "pose/heading"), 1.5707963)]
    assert verify_delta(delta, PUBLIC, MESH)
    assert delta_bytes(delta) == raw


def test_any_cose_library_checks_the_header() -> None:
    delta = delta_from_bytes_untrusted(raw_delta())
    protected, unprotected, payload, signature = cbor2.loads(head_bytes(delta.head)).value
    VerifyKey(PUBLIC).verify(cbor2.dumps(["Signature1", protected, b"delta" + MESH, payload]), signature)
    assert unprotected == {4: REPLICA}
    assert cbor2.loads(payload)[2] == 1


def test_a_signed_update_is_small() -> None:
    """Issue: 20 bytes of path and a float, without covers, at most 240 bytes; the goal is 215."""
    path = ["robots", "17", "pose/heading"]
    assert sum(len(segment) for segment in path) == 20
    for number in (1, 1000, 100_000):
        raw = raw_delta(
            body_of([0, 1, [0, *path], 1.5707963]),
            seq=number,
            prev_hash=b"p" * 16 if number > 1 else NO_HASH,
            gc_floor=number // 2,
        )
        assert len(raw) <= 215
    assert len(raw) == 203


def test_the_largest_body_fits_a_datagram_under_the_largest_header() -> None:
    filler = BODY_BYTES_MAX - len(body_of([0, 1, [0, "p"], b"x" * 900])) + 900
    body = body_of([0, 1, [0, "p"], b"x" * filler])
    assert len(body) == BODY_BYTES_MAX
    largest = (1 << 48) - 1
    raw = raw_delta(body, seq=largest, prev_hash=b"p" * 16, shelf=shelf_id(REPLICA, 0xFFFFFFFF), gc_floor=largest)
    assert len(raw) == FRAME_BYTES_MAX
    assert len(delta_from_bytes_untrusted(raw).header_bytes) == HEADER_BYTES_MAX
    assert len(raw) - len(body) == COSE_BYTES_MAX


def test_every_altered_byte_is_noticed() -> None:
    raw = raw_delta()
    kid = range(9, 17)
    for at in range(len(raw)):
        for flip in (1, 0x80):
            altered = raw[:at] + bytes((raw[at] ^ flip,)) + raw[at + 1 :]
            try:
                delta = delta_from_bytes_untrusted(altered)
            except Malformed:
                continue
            # Another kid names another author, whose key did not sign this.
            assert (at in kid and delta.shelf != SHELF) or not verify_delta(delta, PUBLIC, MESH), at


@pytest.mark.parametrize("cut", range(0, 260, 3))
def test_every_cut_is_malformed(cut: int) -> None:
    raw = raw_delta()
    if cut < len(raw):
        with pytest.raises(Malformed):
            delta_from_bytes_untrusted(raw[:cut])
    with pytest.raises(Malformed):
        delta_from_bytes_untrusted(raw + bytes(cut + 1))


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_garbage_in_place_of_header_or_body_is_malformed(garbage: bytes) -> None:
    """Signed garbage too: the signature only says who sent it."""
    raw = raw_delta()
    head = raw[: -len(POSE)]
    if garbage != POSE:
        with pytest.raises(Malformed):
            delta_from_bytes_untrusted(head + garbage)
    message = cbor2.CBORTag(18, [b"\xa1\x01\x27", {4: REPLICA}, garbage, sign(to_be_signed(garbage, PURPOSE, MESH))])
    with pytest.raises(Malformed):
        delta_from_bytes_untrusted(cbor2.dumps(message, canonical=True) + POSE)


BAD_BODIES = {
    "indefinite": b"\x9f" + POSE[1:] + b"\xff",
    "a tag": b"\xd9\xd9\xf7" + POSE,
    "a longer integer": POSE.replace(cbor.encode(TIME), b"\x1b" + TIME.to_bytes(8, "big")).replace(
        b"\x82\x01\x01", b"\x82\x18\x01\x01"
    ),
    "a set as payload": cbor2.dumps([[1, 1], TIME, [], [[0, 1, [0, "p"], {1, 2}]]], canonical=True),
    "a bignum as payload": cbor2.dumps([[1, 1], TIME, [], [[0, 1, [0, "p"], 2**70]]], canonical=True),
    "undefined as payload": cbor2.dumps([[1, 1], TIME, [], [[0, 1, [0, "p"], cbor2.undefined]]], canonical=True),
    "a simple value as payload": cbor2.dumps([[1, 1], TIME, [], [[0, 1, [0, "p"], cbor2.CBORSimpleValue(99)]]], canonical=True),
    "integer keys": cbor2.dumps([[1, 1], TIME, [], [[0, 1, [0, "p"], {1: 2}]]], canonical=True),
    "nested too deep": body_of([0, 1, [0, "p"], [[[[[[[[[[[[[[0]]]]]]]]]]]]]]]),
    "not a body": cbor.encode({"a": 1}),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_signed_bomb_is_malformed(name: str) -> None:
    with pytest.raises(Malformed):
        delta_from_bytes_untrusted(raw_delta(BAD_BODIES[name]))
    with pytest.raises(Malformed):
        body_from_bytes_untrusted(SHELF, 1, BAD_BODIES[name])


def test_a_body_travels_alone() -> None:
    delta = delta_from_bytes_untrusted(raw_delta())
    body = body_from_bytes_untrusted(SHELF, 1, POSE)
    assert body.hash == delta.header.body_hash
    assert body.ops == delta.ops


def test_a_header_travels_alone() -> None:
    delta = delta_from_bytes_untrusted(raw_delta())
    head = head_from_parts_untrusted(SHELF, delta.header_bytes, delta.signature)
    assert head == delta.head
    assert verify_header(head.header_bytes, head.signature, PUBLIC, MESH)
    with pytest.raises(Malformed, match="another shelf"):
        head_from_parts_untrusted(shelf_id(REPLICA, 1), delta.header_bytes, delta.signature)
    with pytest.raises(Malformed):
        head_from_parts_untrusted(SHELF, delta.header_bytes + b"\0", delta.signature)


def test_a_signature_counts_in_its_mesh_only() -> None:
    delta = delta_from_bytes_untrusted(raw_delta())
    assert not verify_delta(delta, PUBLIC, b"another mesh id.")
    assert not verify_delta(delta, bytes(32), MESH)


def test_verification_can_be_remembered_across_nodes() -> None:
    """What a simulator injects: a thousand nodes, one verification."""
    verified: dict[tuple[bytes, bytes, bytes], bool] = {}
    costs = []

    def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
        token = (public_key, message, signature)
        if token not in verified:
            costs.append(token)
            verified[token] = LIBSODIUM.verify(*token)
        return verified[token]

    for _ in range(1000):
        assert verify_delta(_read(), PUBLIC, MESH, verify)
    assert len(costs) == 1


_RAW = raw_delta()


def _read() -> Delta:
    return delta_from_bytes_untrusted(_RAW)
