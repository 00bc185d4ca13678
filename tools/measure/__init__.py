"""Measurements that a reader can repeat: `python -m tools.measure --help`. Real processes and sockets on loopback."""
