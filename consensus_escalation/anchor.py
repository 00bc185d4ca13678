"""A place in the log that somebody vouched for: what a newcomer is told of it, by hand, beside the authority's key.

A certificate counts under the voters at its block, and those may have left since, and their keys may be anywhere. So a newcomer's
token names the newest block that its inviter knew, and the change of voters that was in force there. What leads up to that block
is proven by its hash, and nothing else below it counts: voters of former days cannot tell a newcomer another history.

    blocks to the anchor    all of them, linked by their hashes, are taken at once, whatever certificates say
    a snapshot below        waits until blocks link it to the anchor
    a snapshot above        counts when the anchor's change of voters is among those that its proof rests on
    another epoch           a later one is the authority's word, and counts for more; an earlier one is not begun
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from consensus_escalation.types import HASH_BYTES
from crdt.errors import Malformed


class Anchor(NamedTuple):
    epoch: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which has no use here
    """Of the block; 0 is the genesis."""
    hash: bytes
    config_index: int
    """Of the block that brought the configuration in force there; 0 is the genesis."""
    config_hash: bytes


def anchor_from_value_untrusted(value: object) -> Anchor:
    """Raises Malformed."""
    match value:
        case [int(epoch), int(index), bytes(digest), int(config_index), bytes(config_hash)]:
            numbers, hashes = (epoch, index, config_index), (digest, config_hash)
        case _:
            raise Malformed("an anchor has another shape")
    if any(type(each) is not int or not 0 <= each < 1 << 63 for each in numbers) or not all(
        len(each) == HASH_BYTES for each in hashes
    ):
        raise Malformed("an anchor has another shape")
    if config_index > index or (config_index == index and digest != config_hash):
        raise Malformed("an anchor contradicts itself")
    return Anchor(epoch, index, digest, config_index, config_hash)


def agrees(anchor: Anchor, steps: Sequence[tuple[int, bytes]], last: int, digest: bytes) -> bool:
    """Whether a history up to block `last`, of that hash, may be the anchor's. `steps`: its changes of voters, (index, hash)."""
    known = [step for step in steps if step[0] <= min(last, anchor.index)]
    if last == anchor.index and digest != anchor.hash:
        return False
    if last < anchor.config_index:
        return True  # what lies between is still to come
    return (known[-1] if known else (0, anchor.config_hash)) == (anchor.config_index, anchor.config_hash)
