"""What the spread of a write should look like where nothing is broken: the push tree over the links of a run, with loss and its
repair.

A fresh delta goes from its author to all members, or down a tree of fixed degree in a large mesh (mesh.sync.tree). Each hop takes
what the link takes, also a first contact (mesh.wire.early). A delta that is lost on a hop goes again after 2, 4, 8 ... round
trips (mesh.sync.repeat). Not in it: deltas that follow soon and show the gap earlier, so a busy mesh may be faster than this,
queues on links, and anything that is cut.
"""

from __future__ import annotations

import random
from typing import Final

from mesh.presets import preset
from mesh.sync.repeat import LOSSY_FACTORS
from tools.sim.options import Options

NAME: Final = "push tree, repeated after loss"
SAMPLES: Final = 20_000


def push_tree(options: Options, rng: random.Random) -> list[float]:
    """Milliseconds from a write to a random other node, `SAMPLES` times; ascending. Empty for a mesh of one."""
    nodes, sync, link = options.nodes, preset(options.preset).sync, options.link()
    if nodes < 2:
        return []

    def hop() -> float:
        return link.delay.draw(rng.random, rng.randrange(nodes), rng.randrange(nodes)) / 1e6

    typical = sorted(hop() for _ in range(99))[49]
    round_trip = max(2 * typical, sync.repeat_min_seconds)

    def arrival() -> float:
        if rng.random() >= link.loss:
            return hop()
        for factor in LOSSY_FACTORS:
            if rng.random() >= link.loss:
                return round_trip * factor + hop()
        return round_trip * LOSSY_FACTORS[-1] + rng.uniform(0.0, sync.digest_quiet_seconds) + 3 * hop()

    times = []
    for _ in range(SAMPLES):
        position, total = rng.randrange(1, nodes), 0.0
        while position:
            total += arrival()
            position = 0 if nodes <= sync.direct_max else (position - 1) // sync.degree
        times.append(total * 1e3)
    return sorted(times)
