"""Frames of sync: what is encoded is read back, anything else is Malformed, and none outgrows a datagram."""

from __future__ import annotations

from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

import crdt
from crdt.ids import ShelfId
from mesh.errors import Malformed
from mesh.sync import messages
from mesh.sync.buckets import BUCKET_HASH_BYTES, BUCKETS
from mesh.sync.messages import (
    BodyNote,
    BucketPage,
    Digest,
    Floor,
    FloorNote,
    ListingEntry,
    ListingPage,
    Purpose,
    TrustIds,
    Want,
    WantBodies,
    WantListing,
    framed,
)
from mesh.sync.pins import Pinned
from mesh.sync.sync import CHANGED_BYTES_MAX
from mesh.wire.packer import FRAME_BYTES_MAX

numbers = st.integers(0, (1 << 64) - 1)
shelves = st.binary(min_size=12, max_size=12).map(ShelfId)
loose = st.lists(numbers, max_size=4).map(tuple)
held = st.builds(Floor, shelves, st.integers(1, (1 << 64) - 1), st.binary(min_size=4, max_size=4), loose)
floors = st.one_of(held, st.builds(Floor, shelves, st.just(0), st.just(b""), loose))
some_floors = st.lists(floors, max_size=5).map(tuple)
entries = st.builds(ListingEntry, numbers, shelves, numbers, st.binary(min_size=16, max_size=16), st.integers(1, (1 << 255) - 1))


class Message(Protocol):
    def encode(self) -> bytes: ...


all_messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(FloorNote, some_floors, st.sampled_from(Purpose)),
    st.builds(Digest, st.booleans(), floors, st.binary(min_size=8, max_size=8), st.binary(max_size=400), some_floors),
    st.builds(BucketPage, numbers, shelves, shelves, some_floors),
    st.builds(Want, some_floors),
    st.builds(WantListing, shelves, numbers, numbers, numbers),
    st.builds(
        ListingPage,
        shelves,
        numbers,
        st.binary(),
        st.binary(min_size=64, max_size=64),
        numbers,
        numbers,
        st.lists(entries, max_size=3).map(tuple),
    ),
    st.builds(WantBodies, shelves, numbers, st.lists(st.tuples(shelves, numbers), max_size=5).map(tuple)),
    st.builds(BodyNote, shelves, numbers, st.binary(min_size=1, max_size=50)),
    st.builds(
        TrustIds,
        st.binary(min_size=8, max_size=8),
        st.binary(min_size=8, max_size=8),
        st.lists(st.binary(min_size=8, max_size=8)).map(b"".join),
    ),
)
KINDS = (FloorNote, Digest, BucketPage, Want, WantListing, ListingPage, WantBodies, BodyNote, TrustIds)


@given(all_messages)
def test_round_trip(message: Message) -> None:
    assert type(message).decode_untrusted(message.encode()) == message  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
@given(raw=st.binary(max_size=200))
def test_noise_is_malformed(kind: type, raw: bytes) -> None:
    if kind is BodyNote:
        return  # any bytes behind its head are a body, judged by their hash
    with pytest.raises(Malformed):
        kind.decode_untrusted(b"\xff" + raw)  # type: ignore[attr-defined]


@given(all_messages, st.data())
def test_an_altered_frame_is_read_or_malformed(message: Message, data: st.DataObject) -> None:
    """Nothing but Malformed comes out, for every kind that takes the bytes."""
    raw = bytearray(message.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for kind in KINDS:
        try:
            kind.decode_untrusted(bytes(raw))
        except Malformed:
            continue


LARGE = (1 << 48) - 1
SHELF, OTHER = ShelfId(b"\xfe" * 12), ShelfId(b"\xff" * 12)
large_floors = st.builds(Floor, shelves, numbers, st.just(b"hash"), st.lists(numbers, max_size=16).map(tuple))


@given(st.lists(large_floors, max_size=80))
def test_floors_of_any_number_and_size_fit_their_frames(floors: list[Floor]) -> None:
    """Found by reading: they were counted, not measured, so a dozen shelves with loose deltas stopped the process."""
    parts = framed(floors)
    assert [floor for part in parts for floor in part] == floors
    for part in parts:
        assert len(FloorNote(part, Purpose.SAY_DURABLE).encode()) <= FRAME_BYTES_MAX
        assert len(Want(part).encode()) <= FRAME_BYTES_MAX
        assert len(BucketPage(BUCKETS - 1, OTHER, OTHER, part).encode()) <= FRAME_BYTES_MAX
    whole = Floor(SHELF, (1 << 64) - 1, b"hash")
    for part in framed(floors, CHANGED_BYTES_MAX):
        digest = Digest(True, whole, bytes(8), bytes(BUCKETS * BUCKET_HASH_BYTES), part)
        assert len(digest.encode()) <= FRAME_BYTES_MAX


def test_a_mask_has_one_encoding() -> None:
    page = ListingPage(SHELF, 0, b"", bytes(64), 1, 0, (ListingEntry(1, SHELF, 1, bytes(16), 1),)).encode()
    assert page.endswith(b"\x41\x01")
    with pytest.raises(Malformed):
        messages.ListingPage.decode_untrusted(page[:-2] + b"\x42\x00\x01")


@given(st.lists(entries, min_size=1, max_size=80), st.booleans())
def test_every_page_of_a_listing_fits_a_datagram(some: list[ListingEntry], own: bool) -> None:
    """Found by a listing of full deltas: a fixed number of entries a page was too many for their masks."""
    listed = tuple(crdt.Entry(e.place, SHELF if own else e.shelf, e.place if own else e.seq, e.body_hash, e.mask) for e in some)
    head = crdt.Head(crdt.Header(SHELF, LARGE, bytes(16), bytes(16), LARGE, bytes(16)), bytes(76), bytes(64))
    pinned = Pinned(crdt.Listing(SHELF, LARGE, head, listed, ()))
    offset = 0
    together: list[ListingEntry] = []
    while offset < len(listed):
        page = pinned.page(offset)
        assert len(page.encode()) <= FRAME_BYTES_MAX
        together += page.entries
        offset += len(page.entries)
    assert [tuple(entry) for entry in together] == [tuple(entry) for entry in listed]
