"""The edge: UDP sockets, clocks, systemd, and the loop that drives the pure core."""
