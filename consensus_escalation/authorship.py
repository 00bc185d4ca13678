"""Who wants an entry: its author's signature, one for a whole batch.

A batch is entries of one author, numbered in a row, under one `since`. It is signed once, on its first entry, and goes into one
block undivided, so that every voter can check it before it acknowledges, and anybody later. A leader signs its own batches with
the block that it puts them into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from consensus_escalation.block import Entry
from consensus_escalation.types import Keys, Purpose, Voter

BY_BLOCK: Final = b"\0"
"""In the place of a signature: in a block of its author's it needs none, and anywhere else this is none."""


def signed_bytes(batch: Sequence[Entry], keys: Keys) -> bytes:
    """What the author signs: one run of `runs`, bare. Evidence is added later by others, so it is no part of it."""
    kind, author, since, number, *_ = batch[0]
    return keys.encode([[int(kind), author, since, number, b"", b"", [entry.body for entry in batch]]])


def sign_batch(batch: Sequence[Entry], keys: Keys) -> tuple[Entry, ...]:
    """With this agent's own key. `batch` is not empty."""
    first, *others = batch
    return (first._replace(signature=keys.sign(Purpose.ENTRY, signed_bytes(batch, keys))), *others)


def own_batch(batch: Sequence[Entry]) -> tuple[Entry, ...]:
    """For a block of this agent's own; `sign_batch` makes it one for anybody's. `batch` is not empty."""
    return (batch[0]._replace(signature=BY_BLOCK), *batch[1:])


def batches(entries: Sequence[Entry]) -> Iterator[tuple[Entry, ...]]:
    """The batches in a block: each begins with a signature. What leaders write themselves has no author and is left out."""
    batch: list[Entry] = []
    for entry in entries:
        if batch and (entry.signature or not entry.author):
            yield tuple(batch)
            batch = []
        if entry.author:
            batch.append(entry)
    if batch:
        yield tuple(batch)


def is_batch(entries: Sequence[Entry]) -> bool:
    """Whether these are one author's, in a row, under one signature: what `runs` makes one run of."""
    if not entries or not entries[0].signature:
        return False
    kind, author, since, number, *_ = entries[0]
    return len(entries) == 1 or (
        bool(author)
        and not any(entry.signature for entry in entries[1:])
        and all(entry[:4] == (kind, author, since, at) for at, entry in enumerate(entries, number))
    )


def is_signed_untrusted(batch: Sequence[Entry], keys: Keys) -> bool:
    """Whether its author signed exactly this batch. False for strangers."""
    author, signature = batch[0].author, batch[0].signature
    return (
        is_batch(batch) and len(author) == 8 and keys.verify(Voter(author), Purpose.ENTRY, signed_bytes(batch, keys), signature)
    )


def is_vouched_for(batch: Sequence[Entry], leader: bytes, is_signed: IsSigned) -> bool:
    """Whether its author stands for this batch in a block that `leader` has signed: for the leader's own, that signature does."""
    return is_batch(batch) if batch[0].author == leader else is_signed(batch)


IsSigned = Callable[[Sequence[Entry]], bool]
