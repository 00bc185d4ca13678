"""What the primitives under a figure cost on this machine: the bound that no implementation on top of them can pass."""

from __future__ import annotations

import random
import time

from mesh.wire.delta import delta_from_bytes_untrusted, verify_delta
from tools.measure.micro import Author, sealed_singles


def rates() -> dict[str, float]:
    """Verifications of a delta's header per second of CPU time. The message is as long as a delta's, and so is the way to it."""
    author = Author()
    deltas = [delta_from_bytes_untrusted(raw) for raw in sealed_singles(author, random.Random(1))]
    key, mesh_id = author.identity.public_key, author.directory.mesh_id
    start = time.process_time()
    for delta in deltas:
        if not verify_delta(delta, key, mesh_id):
            raise AssertionError("a genuine delta did not verify")
    return {"single": len(deltas) / (time.process_time() - start)}
