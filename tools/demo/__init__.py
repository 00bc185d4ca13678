"""`mesh demo`: the main job on real input, with real processes, sockets, disks and faults."""

from tools.demo.show import command

__all__ = ["command"]
