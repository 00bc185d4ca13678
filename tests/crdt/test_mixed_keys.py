"""Keys whose last segments are text here and bytes there live side by side, in housekeeping too."""

from __future__ import annotations

from crdt.ids import ReplicaId, shelf_id
from crdt.types.local import Local


def test_removed_keys_of_text_and_of_bytes_are_retired_together() -> None:
    """A map with the keys "pose" and 5, cleared: retiring compared a text with a byte string and raised TypeError."""
    replica = Local(shelf_id(ReplicaId(b"replica1"), 1))
    here = replica.map("map")
    here["pose"] = 0
    here[5] = 0
    replica.seal()
    here.clear()
    replica.seal()
    assert replica.retire(lambda seq: True) == 2
    replica.seal()
    assert here.value == {}
