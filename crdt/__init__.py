"""Signed shelves: the CRDT core, pure and stdlib only."""
