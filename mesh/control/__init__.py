"""The local control socket: how the `mesh` command asks a running node of this machine."""
