"""Small bytes that cost much to read: nesting, lengths, shared references, tags, colliding keys."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import cbor2
import pytest

from crdt import codec
from mesh.errors import Malformed
from mesh.testing import open_mesh
from mesh.wire import cbor
from mesh.wire.frames import Frame
from tests.attacks.stage import alive_at, both, say, without

THREAT = "decode bombs"

LIAR = 2
BOMBS = {
    "nesting": b"\x81" * 1_000 + b"\x00",
    "an array of 2**62": b"\x9b\x40" + bytes(7),
    "a string of 2**62": b"\x5b\x40" + bytes(7),
    "a map of 2**62": b"\xbb\x40" + bytes(7),
    "an endless string": b"\x5f" + b"\x41a" * 300,
    "a big number": b"\xc2\x59\x04\x00" + b"\xff" * 1024,
    "a decimal with an exponent": b"\xc4\x82\x3a\x7f\xff\xff\xff\x01",
    "a regular expression": b"\xd8\x23\x6a(a+)+$aaaa",
    "shared references": b"\xd8\x1c\x82" * 20 + b"\x00" + b"\xd8\x1d\x00" * 20,
    "a value that holds itself": b"\xd8\x1c\x81\xd8\x1d\x00",
    "one key twice": b"\xa2\x41a\x00\x41a\x01",
    "keys that are arrays": b"\xa1\x81\x00\x00",
    "a number in a longer form": b"\x18\x01",
}


@pytest.mark.parametrize("name", list(BOMBS))
@pytest.mark.parametrize("decode", [cbor.decode_untrusted, codec.decode_untrusted], ids=["wire", "core"])
def test_a_bomb_is_refused_before_it_costs_anything(name: str, decode: Any) -> None:
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(Exception) as caught:  # noqa: PT011  # each decoder has its own class of this name
        decode(BOMBS[name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert type(caught.value).__name__ == "Malformed"
    assert peak < 1_000_000
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a value that holds itself", "it is its own element"),
        ("one key twice", "the second wins"),
        ("a regular expression", "a compiled pattern"),
        ("a big number", "a number of 8,192 bits"),
        ("a number in a longer form", "two encodings of one value"),
    ],
)
def test_without_the_doors_closed_the_library_takes_it(name: str, what: str) -> None:
    """cbor2 is a good decoder of CBOR; CBOR is not a format to take from strangers as it is."""
    value = cbor2.loads(BOMBS[name])
    assert value is not None or what


@both
def test_a_member_says_bombs(defended: bool) -> None:
    """Undefended: the decoder follows references, and its caller meets what it never asked for."""

    def open_door(raw: bytes) -> Any:
        value = cbor2.loads(raw)
        return tuple(value) if isinstance(value, list) else value

    with open_mesh(3, seed=1) as mesh, without(defended, cbor, "decode_untrusted", open_door):
        before = mesh.peer(0).drops.total()
        try:
            for kind in (Frame.FLOOR, Frame.WANT, Frame.DIGEST, Frame.LISTING, Frame.TRUST_IDS):
                say(mesh, LIAR, 0, kind, *BOMBS.values())
                mesh.run(0.01)
            raised = False
        except Exception:  # noqa: BLE001  # whatever it was: the receive path must raise nothing
            raised = True
        if defended:
            assert not raised
            assert mesh.peer(0).drops.total() - before == 5 * len(BOMBS)
            mesh.run(3.0)
            assert alive_at(mesh, 0) == 2
        else:
            assert raised or mesh.peer(0).drops.total() - before < 5 * len(BOMBS)


@both
def test_keys_that_collide(defended: bool) -> None:
    """Integers hash to themselves: keys of one residue make a dictionary a list. So keys are text or bytes: their hashes are
    keyed by a secret of the process.
    """
    size = 1 << 15
    colliding = cbor2.dumps({number * size * ((1 << 61) - 1): 0 for number in range(1, 3)}, canonical=True)
    if defended:
        with pytest.raises(Malformed):
            cbor.decode_untrusted(colliding)
    else:
        assert len({hash(key) for key in cbor2.loads(colliding)}) == 1
