"""A mesh on virtual time, for tests: no sockets, no threads, no sleeping, every run a pure function of its seed.

`World` is the engine: hosts, network, clocks, disks. The simulator (tools.sim) is built on it.
"""

from __future__ import annotations

from mesh.testing.clock import EPOCH, SECOND, Clock, microseconds
from mesh.testing.delay import Delay, Fixed, LogNormal, PerLink, Uniform
from mesh.testing.disk import Disk, Image
from mesh.testing.network import Cut, Link, Network
from mesh.testing.streams import stream
from mesh.testing.world import Boot, Core, Host, SimulationError, World, host_address

__all__ = [
    "EPOCH",
    "SECOND",
    "Boot",
    "Clock",
    "Core",
    "Cut",
    "Delay",
    "Disk",
    "Fixed",
    "Host",
    "Image",
    "Link",
    "LogNormal",
    "Network",
    "PerLink",
    "SimulationError",
    "Uniform",
    "World",
    "host_address",
    "microseconds",
    "stream",
]
