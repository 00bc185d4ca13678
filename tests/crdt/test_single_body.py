"""The short way to the commonest bodies comes to what the general way comes to, and to nothing where that refuses."""

from __future__ import annotations

import random
from typing import Any

import pytest

from crdt import Malformed, codec
from crdt.body import Body, _single_untrusted, any_body_from_bytes_untrusted
from crdt.ids import ShelfId

ME = ShelfId(b"m" * 12)
SEQ = 7
PLAIN: list[Any] = [0, 23, 24, 255, 256, 1 << 32, (1 << 64) - 1, 0.1, -3.7e30, 1e38, "", "text", True, False, None]
OTHERS: list[Any] = [-1, -3.7e100, 0.5, 1e300, 3.1e38, float("inf"), float("nan"), -0.0, "é", "x" * 24, b"raw", (1, 2), {"a": 1}]


def body(*, path: tuple[Any, ...] = ("robots", "r7", "pose"), payload: Any = 0.1, **other: Any) -> list[Any]:
    fields = {"rights": [2, 1], "time": 1_760_000_000_000_000, "origins": [], "kind": 0, "type": 1, "shared": 0} | other
    op = [fields["kind"], fields["type"], [fields["shared"], *path], payload]
    return [fields["rights"], fields["time"], fields["origins"], [op]]


def both(raw: bytes) -> tuple[Body | None, Body | None]:
    try:
        general = any_body_from_bytes_untrusted(ME, SEQ, raw)
    except Malformed:
        general = None
    return _single_untrusted(ME, SEQ, raw), general


def same(one: Body, other: Body) -> bool:
    typed = [[(type(each), each) for each in op] for op in (*one.ops, *other.ops)]
    return (
        len(one.ops) == len(other.ops) == 1 and typed[0] == typed[1] and one.rights == other.rights and one.plain == other.plain
    )


@pytest.mark.parametrize("payload", PLAIN)
def test_what_comes_most_takes_the_short_way(payload: Any) -> None:
    single, general = both(codec.encode(body(payload=payload)))
    assert single is not None
    assert general is not None
    assert same(single, general)
    assert single.rights is general.rights


@pytest.mark.parametrize(
    "fields",
    [
        *({"payload": payload} for payload in OTHERS),
        *({"path": path} for path in [(), ("a",) * 17, (b"bytes",), ("",), ("x" * 200,), (1,), (("a",),)]),
        {"kind": 1},
        {"kind": True},
        {"type": 0},
        {"type": 30},
        {"shared": 1},
        {"shared": False},
        {"time": 1 << 63},
        {"rights": [1 << 63, 1]},
        {"rights": [1, 1 << 63]},
        {"rights": [1]},
        {"origins": [b"o" * 12]},
    ],
    ids=str,
)
def test_what_is_different_does_not(fields: dict[str, Any]) -> None:
    single, _ = both(codec.encode(body(**fields)))
    assert single is None


def test_the_short_way_takes_nothing_that_the_general_way_refuses() -> None:
    """Each body with bytes changed, cut, doubled or added: also what is not deterministic, or no UTF-8."""
    rng = random.Random(5)
    taken = refused = 0
    for _ in range(30_000):
        path = tuple("".join(rng.choices("abcé", k=rng.choice((1, 3, 23, 24, 30)))) for _ in range(rng.randint(1, 3)))
        raw = bytearray(
            codec.encode(body(path=path, payload=rng.choice(PLAIN + OTHERS), time=rng.getrandbits(rng.randint(1, 50))))
        )
        for _ in range(rng.choice((0, 1, 1, 2))):
            at = rng.randrange(len(raw))
            match rng.randrange(4):
                case 0:
                    raw[at] = rng.randrange(256)
                case 1:
                    raw[at] = (raw[at] + rng.choice((-1, 1))) % 256
                case 2:
                    del raw[at]
                case 3:
                    raw.insert(at, rng.randrange(256))
        single, general = both(bytes(raw))
        if single is not None:
            taken += 1
            assert general is not None, bytes(raw).hex()
            assert same(single, general), bytes(raw).hex()
        elif general is None:
            refused += 1
    assert taken > 3_000
    assert refused > 3_000
