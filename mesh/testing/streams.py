"""One seed, many independent random streams.

Every part of a simulated world draws from a stream of its own, named by what it is for. So adding a draw in one part (one more
fault, one more host) leaves the draws of all others as they were, and a failing seed stays comparable while it is being cut down.
"""

from __future__ import annotations

import hashlib
import random


def stream(seed: int, *names: str | int) -> random.Random:
    """A generator that depends on the seed and the names only: same on every machine, Python version and PYTHONHASHSEED."""
    label = "/".join(str(name) for name in (seed, *names))
    return random.Random(int.from_bytes(hashlib.blake2b(label.encode(), digest_size=16).digest(), "big"))
