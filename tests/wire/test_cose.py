"""COSE_Sign1, against a second implementation that knows only the RFC and a general CBOR library."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from mesh.errors import Malformed
from mesh.wire import cose
from mesh.wire.crypto import LIBSODIUM

KEY = SigningKey(bytes(range(32)))
PUBLIC = bytes(KEY.verify_key)
MESH = b"mesh id, 16 byte"
KID = b"replica8"


def sign(message: bytes) -> bytes:
    return KEY.sign(message).signature


def sig_structure(protected: bytes, external_aad: bytes, payload: bytes) -> bytes:
    """RFC 9052 section 4.4, by a general encoder."""
    return cbor2.dumps(["Signature1", protected, external_aad, payload])


def read_by_the_book(raw: bytes, external_aad: bytes) -> tuple[bytes, bytes]:
    """(kid, payload) of a valid COSE_Sign1 with EdDSA."""
    message = cbor2.loads(raw)
    assert message.tag == 18
    protected, unprotected, payload, signature = message.value
    assert cbor2.loads(protected) == {1: -8}
    VerifyKey(PUBLIC).verify(sig_structure(protected, external_aad, payload), signature)
    return unprotected[4], payload


def test_the_second_implementation_follows_the_published_vector() -> None:
    """cose-wg/Examples, sign1-tests/sign-pass-02: with external data (ES256, so only what is signed can be compared)."""
    to_be_signed = "846A5369676E61747572653143A101264C11AA22BB33CC44DD5500669954546869732069732074686520636F6E74656E742E"
    structure = sig_structure(bytes.fromhex("a10126"), bytes.fromhex("11aa22bb33cc44dd55006699"), b"This is the content.")
    assert structure == bytes.fromhex(to_be_signed)


def test_the_template_is_that_of_the_published_vector() -> None:
    """sign1-tests/sign-pass-02 begins D28443A10126 A104423131 54...: ours differs in the algorithm and the length of the kid."""
    raw = cose.sign1(sign, b"This is the content.", kid=KID, purpose=b"p", mesh_id=MESH)
    assert raw[:17] == bytes.fromhex("d28443a10127a10448") + KID
    assert raw[17 : 17 + 21] == bytes.fromhex("54546869732069732074686520636F6E74656E742E")
    assert raw[38:40] == bytes.fromhex("5840")


def test_ed25519_is_rfc_8032() -> None:
    """Section 7.1, test 2."""
    public, secret = LIBSODIUM.keypair(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    assert public.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    signature = LIBSODIUM.sign(secret, b"\x72")
    assert signature.hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert LIBSODIUM.verify(public, b"\x72", signature)


@given(payload=st.binary(max_size=700), purpose=st.binary(min_size=1, max_size=40), kid=st.binary(min_size=8, max_size=8))
@settings(max_examples=100, deadline=None)
def test_others_read_what_we_sign(payload: bytes, purpose: bytes, kid: bytes) -> None:
    raw = cose.sign1(sign, payload, kid=kid, purpose=purpose, mesh_id=MESH)
    assert read_by_the_book(raw, purpose + MESH) == (kid, payload)
    assert cose.open1_untrusted(raw)[:2] == (kid, payload)
    assert cose.verify1(cose.open1_untrusted(raw), PUBLIC, purpose, MESH)


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 257, 65535])
def test_we_read_what_others_sign(size: int) -> None:
    payload = bytes(size)
    signature = sign(sig_structure(b"\xa1\x01\x27", b"purpose" + MESH, payload))
    raw = cbor2.dumps(cbor2.CBORTag(18, [b"\xa1\x01\x27", {4: KID}, payload, signature]))
    signed = cose.open1_untrusted(raw)
    assert signed == (KID, payload, signature)
    assert cose.verify1(signed, PUBLIC, b"purpose", MESH)
    assert cose.assemble(signed) == raw


def test_a_signature_is_for_one_purpose_one_mesh_one_payload_one_key() -> None:
    signed = cose.open1_untrusted(cose.sign1(sign, b"payload", kid=KID, purpose=b"purpose", mesh_id=MESH))
    assert cose.verify1(signed, PUBLIC, b"purpose", MESH)
    assert not cose.verify1(signed, PUBLIC, b"purposf", MESH)
    assert not cose.verify1(signed, PUBLIC, b"purpose", MESH[:-1] + b"?")
    assert not cose.verify1(signed._replace(payload=b"payloae"), PUBLIC, b"purpose", MESH)
    assert not cose.verify1(signed, bytes(SigningKey(bytes(32)).verify_key), b"purpose", MESH)
    assert not cose.verify1(signed._replace(signature=signed.signature[:-1]), PUBLIC, b"purpose", MESH)


def test_a_purpose_does_not_run_into_the_mesh_id() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        cose.to_be_signed(b"", b"purpose" + MESH[:1], MESH[1:])


def test_every_altered_byte_is_noticed() -> None:
    raw = cose.sign1(sign, b"some payload", kid=KID, purpose=b"purpose", mesh_id=MESH)
    for at in range(len(raw)):
        if len(cose._PREFIX) <= at < cose._PAYLOAD_AT:
            continue  # the kid is a hint: it only says whose key to try
        altered = raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :]
        try:
            signed = cose.open1_untrusted(altered)
        except Malformed:
            continue
        assert not cose.verify1(signed, PUBLIC, b"purpose", MESH), at


@pytest.mark.parametrize("cut", range(100))
def test_every_cut_is_malformed(cut: int) -> None:
    raw = cose.sign1(sign, bytes(40), kid=KID, purpose=b"purpose", mesh_id=MESH)
    with pytest.raises(Malformed):
        cose.open1_untrusted(raw[:cut])
    with pytest.raises(Malformed):
        cose.open1_untrusted(raw + raw[:1])


@pytest.mark.parametrize(
    ("head", "size"),
    [
        ("5800", 0),
        ("5817", 23),
        ("590017", 23),
        ("5900ff", 255),
        ("5a00000017", 23),
        ("5b0000000000000017", 23),
        ("5f", 0),
        ("77", 23),
    ],
)
def test_a_payload_length_has_one_form(head: str, size: int) -> None:
    """A general library may read these; two encodings of one statement would have two hashes."""
    raw = cose._PREFIX + KID + bytes.fromhex(head) + bytes(size) + b"\x58\x40" + bytes(64)
    with pytest.raises(Malformed):
        cose.open1_untrusted(raw)


@pytest.mark.parametrize("head", ["57", "5818", "58ff", "590100", "59ffff", "5affffffff", "5bffffffffffffffff"])
def test_a_payload_length_beyond_the_bytes_is_malformed(head: str) -> None:
    with pytest.raises(Malformed):
        cose.open1_untrusted(cose._PREFIX + KID + bytes.fromhex(head) + bytes(3))


@pytest.mark.parametrize(
    "other",
    [
        "8443a10127a10448" + KID.hex(),  # without the tag
        "d2d28443a10127a10448" + KID.hex(),  # with two
        "d28443a10126a10448" + KID.hex(),  # another algorithm
        "d28440a201270448" + KID.hex(),  # the algorithm unprotected
        "d28443a10127a0",  # without a kid
    ],
)
def test_other_profiles_are_refused(other: str) -> None:
    with pytest.raises(Malformed):
        cose.open1_untrusted(bytes.fromhex(other) + b"\x41a\x58\x40" + bytes(64))


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_garbage_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        cose.open1_untrusted(raw)
    with pytest.raises(Malformed):
        cose.open1_untrusted(cose._PREFIX + raw)


LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("key", [*LOW_ORDER, b"\xff" * 32, b"\x02" + bytes(31), b"", bytes(31), bytes(33)])
def test_low_order_and_impossible_keys_sign_and_agree_with_nobody(key: bytes) -> None:
    """With the neutral element as key, R = sB, s is a valid signature of everything: libsodium refuses such keys."""
    for signature in (bytes(64), b"\x01" + bytes(63), key[:32].ljust(64, b"\0"), sign(b"anything")):
        assert not LIBSODIUM.verify(key, b"anything", signature)
    assert LIBSODIUM.agree(LIBSODIUM.keypair(bytes(32))[1], key) is None


def test_both_ends_agree() -> None:
    (one_public, one), (two_public, two) = LIBSODIUM.keypair(bytes(32)), LIBSODIUM.keypair(b"\x01" * 32)
    assert LIBSODIUM.agree(one, two_public) == LIBSODIUM.agree(two, one_public) is not None


@pytest.mark.parametrize("size", range(40))
def test_opening_what_was_never_sealed_is_none(size: int) -> None:
    assert LIBSODIUM.open(bytes(32), bytes(24), bytes(size), b"") is None


def test_a_forged_message_fails_by_the_book_too() -> None:
    raw = cose.sign1(sign, b"payload", kid=KID, purpose=b"purpose", mesh_id=MESH)
    with pytest.raises(BadSignatureError):
        read_by_the_book(raw, b"another" + MESH)
