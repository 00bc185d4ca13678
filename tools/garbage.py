"""The garbage collector of a process that runs for long.

The core hardly makes reference cycles: of a simulated mesh of 128 the full collections freed nothing (`gc.get_stats`), so passes
over the heap are time without use. Trio leaves a few behind where it cancels, so the collector is not switched off.
"""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (50_000, 20, 50)
"""Of `gc.set_threshold`; Python's own are (700, 10, 10). The youngest generation is looked at after so many more objects, a few
MB. Measured: saves 6 to 9% of the time of a simulated mesh of 128."""


SIMULATED: Final = (50_000, 1_000, 1_000)
"""What outlives one look stays: in simulated meshes the later ones have freed nothing at all, and took 7% of the time."""


def collect_rarely(thresholds: tuple[int, int, int] = THRESHOLDS) -> None:
    """Call once the process is set up: what is there by now is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*thresholds)


def collect_no_more() -> None:
    """Call at the end of a process. The interpreter ends with four looks at all there is: 7% of the whole run of a simulated mesh
    of 96 agents (a minute, 50 writes/s), only for the system to take the memory back at once."""
    gc.freeze()
