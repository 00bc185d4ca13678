"""A mesh on virtual time, for tests: no sockets, no threads, no sleeping, every run a pure function of its seed.

    with mesh.testing.open_mesh(3, seed=1) as mesh:
        mesh.node(0).register("robots/0/pose").set([1.0, 2.0])
        mesh.run(0.1)
        assert mesh.node(2).register("robots/0/pose").value == [1.0, 2.0]

`World` is the engine below: hosts, network, clocks, disks. The simulator (tools.sim) is built on both.
"""

from __future__ import annotations

from mesh.testing.clock import EPOCH, SECOND, Clock, microseconds
from mesh.testing.delay import Delay, Fixed, LogNormal, PerLink, Uniform
from mesh.testing.disk import FSYNC_DEFAULT, Disk, Image
from mesh.testing.mesh import DiskFate, Mesh, Setup, open_mesh
from mesh.testing.network import Cut, Link, Network
from mesh.testing.node import VirtualNode, Written
from mesh.testing.streams import stream
from mesh.testing.world import Boot, Core, Host, SimulationError, World, host_address

__all__ = [
    "EPOCH",
    "FSYNC_DEFAULT",
    "SECOND",
    "Boot",
    "Clock",
    "Core",
    "Cut",
    "Delay",
    "Disk",
    "DiskFate",
    "Fixed",
    "Host",
    "Image",
    "Link",
    "LogNormal",
    "Mesh",
    "Network",
    "PerLink",
    "Setup",
    "SimulationError",
    "Uniform",
    "VirtualNode",
    "World",
    "Written",
    "host_address",
    "microseconds",
    "open_mesh",
    "stream",
]
