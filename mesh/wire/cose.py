"""COSE_Sign1 and COSE_Sign (RFC 9052 section 4): how every signed thing travels.

One profile, so that it is built and read by fixed positions instead of a general parser, and has exactly one encoding:

    18([ h'a10127', {4: kid}, payload, signature ])     protected {alg: EdDSA}; kid 8 bytes; tag 18 once, outermost

The signature is over ["Signature1", h'a10127', external_aad, payload] with external_aad = purpose || mesh id: a signature made
for one purpose or one mesh is void in every other. Any COSE library reads and checks these bytes.

What takes several signatures is a COSE_Sign, ascending by kid, each kid once:

    98([ h'', {}, payload, [ [h'a10127', {4: kid}, signature]... ] ])

Each is over ["Signature", h'', h'a10127', external_aad, payload], so that none can be moved to or from a COSE_Sign1. Other
signatures over the same payload make other bytes that say the same: what names such a thing is `signed_part`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from crdt.known import remember
from mesh.errors import Malformed
from mesh.wire.crypto import LIBSODIUM, SIGNATURE_BYTES

KID_BYTES: Final = 8
"""A replica id, or as many bytes of the hash of another signer's key."""
MESH_ID_BYTES: Final = 16
PAYLOAD_BYTES_MAX: Final = 0xFFFF

_PROTECTED: Final = bytes.fromhex("43a10127")
"""bstr of {1 (alg): -8 (EdDSA)}"""
_PREFIX: Final = b"\xd2\x84" + _PROTECTED + bytes.fromhex("a10448")
"""Tag 18, array of 4, protected, {4 (kid): bstr of 8 bytes ..."""
_PAYLOAD_AT: Final = len(_PREFIX) + KID_BYTES
_SIGNATURE_HEAD: Final = b"\x58\x40"
"""bstr of 64 bytes"""
_TAIL_BYTES: Final = len(_SIGNATURE_HEAD) + SIGNATURE_BYTES

SIGNERS_MAX: Final = 8
SEVERAL_START: Final = bytes.fromhex("d8628440a0")
"""Tag 98, array of 4, protected {}, unprotected {}."""
_SIGNER_HEAD: Final = b"\x83" + _PROTECTED + bytes.fromhex("a10448")
"""Array of 3, protected, {4 (kid): bstr of 8 bytes ..."""
SIGNER_BYTES: Final = len(_SIGNER_HEAD) + KID_BYTES + _TAIL_BYTES
"""What each signature adds."""


class Sign1(NamedTuple):
    """What a COSE_Sign1 says, unverified."""

    kid: bytes
    payload: bytes
    signature: bytes


class Sign(NamedTuple):
    """What a COSE_Sign says, unverified."""

    payload: bytes
    signatures: tuple[tuple[bytes, bytes], ...]
    """(kid, signature), ascending by kid."""


def sign1(sign: Callable[[bytes], bytes], payload: bytes, *, kid: bytes, purpose: bytes, mesh_id: bytes) -> bytes:
    """`payload` signed for one purpose in one mesh. `sign` makes the bare Ed25519 signature (`Identity.sign`)."""
    return assembled(kid, payload, sign(to_be_signed(payload, purpose, mesh_id)))


def open1_untrusted(raw: bytes) -> Sign1:
    """The parts of exactly these bytes, not verified. Raises `Malformed`."""
    kid, payload, signature, end = split1_untrusted(raw)
    if end != len(raw):
        raise Malformed("bytes after COSE_Sign1")
    return Sign1(kid, payload, signature)


def verify1(
    signed: Sign1,
    public_key: bytes,
    purpose: bytes,
    mesh_id: bytes,
    verify: Callable[[bytes, bytes, bytes], bool] = LIBSODIUM.verify,
) -> bool:
    """Whether the holder of `public_key` signed this payload for this purpose in this mesh. Does not look at the kid."""
    return verify(public_key, to_be_signed(signed.payload, purpose, mesh_id), signed.signature)


def to_be_signed(payload: bytes, purpose: bytes, mesh_id: bytes) -> bytes:
    """The deterministic encoding of Sig_structure (RFC 9052 section 4.4)."""
    return _sig_structure_start(purpose, mesh_id) + _bstr_head(len(payload)) + payload


def _sig_structure_start(purpose: bytes, mesh_id: bytes) -> bytes:
    known = _STARTS.get((purpose, mesh_id))
    return known if known is not None else remember(_STARTS, (purpose, mesh_id), _make_start(purpose, mesh_id), STARTS_KEPT)


def _make_start(purpose: bytes, mesh_id: bytes) -> bytes:
    if len(mesh_id) != MESH_ID_BYTES:  # with a fixed length at the end, no two (purpose, mesh id) run together alike
        raise ValueError(f"a mesh id has {MESH_ID_BYTES} bytes, not {len(mesh_id)}")
    external_aad = purpose + mesh_id
    return b"\x84\x6aSignature1" + _PROTECTED + _bstr_head(len(external_aad)) + external_aad


_STARTS: Final[dict[tuple[bytes, bytes], bytes]] = {}
STARTS_KEPT: Final = 64
"""A handful of purposes; more than one mesh only in tests and the simulator."""


def assemble(parts: Sign1) -> bytes:
    """The bytes of a COSE_Sign1 whose signature was made elsewhere."""
    return assembled(*parts)


def assembled(kid: bytes, payload: bytes, signature: bytes) -> bytes:
    """The same of the parts by themselves."""
    if len(kid) != KID_BYTES or len(signature) != SIGNATURE_BYTES:
        raise ValueError(f"a kid has {KID_BYTES} bytes and a signature {SIGNATURE_BYTES}, not {len(kid)} and {len(signature)}")
    return b"".join((_PREFIX, kid, _bstr_head(len(payload)), payload, _SIGNATURE_HEAD, signature))


def split1_untrusted(raw: bytes) -> tuple[bytes, bytes, bytes, int]:
    """Kid, payload and signature of the COSE_Sign1 at the start of `raw`, not verified, and where it ends: no object, as every
    delta goes through this. Raises `Malformed`.

    Template matching only: nothing is decoded, so no length from the wire is ever followed beyond the bytes that are there.
    """
    if len(raw) < _PAYLOAD_AT + 3 or not raw.startswith(_PREFIX):
        raise Malformed("not a COSE_Sign1 of this profile")
    payload, middle = _payload_untrusted(raw, _PAYLOAD_AT)
    end = middle + _TAIL_BYTES
    if len(raw) < end or raw[middle : middle + 2] != _SIGNATURE_HEAD:
        raise Malformed("COSE_Sign1 without a 64-byte signature")
    return raw[len(_PREFIX) : _PAYLOAD_AT], payload, raw[middle + 2 : end], end


def _payload_untrusted(raw: bytes, at: int) -> tuple[bytes, int]:
    """The bstr there, and where it ends, which may be beyond the bytes; at least three bytes are there. Raises `Malformed`."""
    # A bstr head in its shortest form, at most 16 bits.
    start, size = at + 3, raw[at] - 0x40
    if 0 <= size < 24:
        start -= 2
    elif size == 24 and raw[at + 1] >= 24:
        size = raw[at + 1]
        start -= 1
    elif size == 25 and raw[at + 1]:
        size = int.from_bytes(raw[at + 1 : start], "big")
    else:
        raise Malformed("COSE payload is not a byte string in its shortest form")
    return raw[start : start + size], start + size


# --- by several signers


def open_several_untrusted(raw: bytes) -> Sign:
    """The parts of exactly these bytes, not verified: of a COSE_Sign that may lack signatures. Raises `Malformed`."""
    at = len(SEVERAL_START)
    if len(raw) < at + 3 or not raw.startswith(SEVERAL_START):
        raise Malformed("not a COSE_Sign of this profile")
    payload, at = _payload_untrusted(raw, at)
    count = raw[at] - 0x80 if at < len(raw) else -1
    if not 0 <= count <= SIGNERS_MAX or len(raw) != at + 1 + count * SIGNER_BYTES:
        raise Malformed(f"a COSE_Sign has at most {SIGNERS_MAX} signatures, and nothing behind them")
    signatures = []
    for start in range(at + 1, len(raw), SIGNER_BYTES):
        middle = start + len(_SIGNER_HEAD) + KID_BYTES
        if raw[start : middle - KID_BYTES] != _SIGNER_HEAD or raw[middle : middle + 2] != _SIGNATURE_HEAD:
            raise Malformed("a signature of a COSE_Sign is not of this profile")
        signatures.append((raw[middle - KID_BYTES : middle], raw[middle + 2 : start + SIGNER_BYTES]))
    kids = [kid for kid, _ in signatures]
    if kids != sorted(set(kids)):
        raise Malformed("signers are not in ascending order, or one signs twice")
    return Sign(payload, tuple(signatures))


def assemble_several(parts: Sign) -> bytes:
    """The bytes of a COSE_Sign; signatures may be given in any order."""
    out = [signed_part_of(parts.payload), bytes((0x80 | len(parts.signatures),))]
    for kid, signature in sorted(parts.signatures):
        out += (_SIGNER_HEAD, kid, _SIGNATURE_HEAD, signature)
    return b"".join(out)


def verify_several(
    signed: Sign, keys: Mapping[bytes, bytes], purpose: bytes, mesh_id: bytes, verify: Callable[[bytes, bytes, bytes], bool]
) -> bool:
    """Whether all of its signatures are by the keys of their kids. Costs a verification for each, until one does not fit."""
    message = to_be_signed_by_several(signed.payload, purpose, mesh_id)
    return all(kid in keys and verify(keys[kid], message, signature) for kid, signature in signed.signatures)


def to_be_signed_by_several(payload: bytes, purpose: bytes, mesh_id: bytes) -> bytes:
    """What each signer of a COSE_Sign signs: Sig_structure with the context "Signature"."""
    if len(mesh_id) != MESH_ID_BYTES:
        raise ValueError(f"a mesh id has {MESH_ID_BYTES} bytes, not {len(mesh_id)}")
    external_aad = purpose + mesh_id
    head = b"\x85\x69Signature\x40" + _PROTECTED + _bstr_head(len(external_aad)) + external_aad
    return head + _bstr_head(len(payload)) + payload


def signed_part_of(payload: bytes) -> bytes:
    """Of a COSE_Sign: all before the signatures."""
    return SEVERAL_START + _bstr_head(len(payload)) + payload


def signed_part(raw: bytes) -> bytes:
    """The bytes that name a signed thing: all of a COSE_Sign1; of a COSE_Sign all but the signatures, because whichever of its
    signers signed, it says the same. Looks at no signature, and gives what is neither as it is."""
    if not raw.startswith(SEVERAL_START) or len(raw) < len(SEVERAL_START) + 3:
        return raw
    try:
        _, end = _payload_untrusted(raw, len(SEVERAL_START))
    except Malformed:
        return raw
    return raw[:end]


def _bstr_head(size: int) -> bytes:
    if size < 256:
        return _SHORT_HEADS[size]
    if size > PAYLOAD_BYTES_MAX:
        raise ValueError(f"a signed payload has at most {PAYLOAD_BYTES_MAX} bytes, not {size}")
    return b"\x59" + size.to_bytes(2, "big")


_SHORT_HEADS: Final = tuple(bytes((0x40 | size,)) if size < 24 else bytes((0x58, size)) for size in range(256))
