"""Pins: a listing stays while it is pulled, and a peer cannot make another peer's go, nor list for ever."""

from __future__ import annotations

import crdt
from crdt.ids import ReplicaId, ShelfId
from mesh.sync.pins import ENTRIES_BURST, ENTRIES_PER_S, PINS_PER_PEER, Pins

SHELF = ShelfId(b"\x01" * 12)
GREEDY, HONEST = ReplicaId(b"greedy.."), ReplicaId(b"honest..")


def pins(entries: int) -> Pins:
    """Of one shelf with so many bodies, whatever is asked for."""
    head = crdt.Head(crdt.Header(SHELF, entries, bytes(16), bytes(16), 0, bytes(16)), b"", b"")
    listed = tuple(crdt.Entry(seq, SHELF, seq, bytes(16), 1) for seq in range(1, entries + 1))
    return Pins(lambda shelf, since: crdt.Listing(shelf, since, head, listed[since:], ()), lambda shelf: entries)


def test_a_peer_pushes_out_its_own_pins_only() -> None:
    """Sixteen pins were shared: one peer with ever new floors made every other pull start over."""
    table = pins(2)
    mine = table.newest(HONEST, SHELF, 0, 0.0)
    assert mine
    for number in range(3 * PINS_PER_PEER):
        table.newest(GREEDY, ShelfId(number.to_bytes(12, "big")), 0, 0.0)
    assert table.get(HONEST, mine.name) is mine


def test_listing_has_a_budget_per_peer() -> None:
    entries = 10_000
    table = pins(entries)
    answered = sum(table.newest(GREEDY, SHELF, since, 0.0) is not None for since in range(1000))
    assert answered * (entries - 1000) <= ENTRIES_BURST + entries
    assert table.newest(HONEST, SHELF, 0, 0.0)
    assert table.newest(GREEDY, SHELF, 0, 2 * entries / ENTRIES_PER_S)
