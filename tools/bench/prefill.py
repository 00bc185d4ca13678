"""A data directory as a member has it that has run for long: the keys of many authors, each signed by its author.

A thousand agents do not fit on one machine, their signed shelves do. What is written here is what a node's own store writes:
the deltas of each author are received by a replica, and what it would have kept goes through the same store.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Final

import trio

import crdt
from crdt.types import type_named
from mesh.store.rows import Batch
from mesh.store.sqlite import open_store
from mesh.testing.apart import replica_apart
from mesh.trust import Authority, Directory, Identity, Membership
from mesh.trust.files import save_membership

BIRTH: Final = 1
WALL: Final = 1_760_000_000_000_000
"""Microseconds of the first write, a day in 2025: before now on every machine whose clock is right."""
WRITE_MICROSECONDS: Final = 20
"""Between two writes of one burst, which coalesces for up to 5 ms."""


def homes(directory: str, members: list[str], keys: int, authors: int, packed: bool) -> dict[str, Any]:
    """Under `directory` a home for each member name, the first with `keys` keys of `authors` on its disk. `packed`: authors
    seal what they wrote together, as a burst does; else one key a delta.
    """
    authority = Authority.generate()
    memberships = [authority.enrol(Identity.generate(), name=name, may_write=["**"]) for name in members]
    for membership in memberships:
        save_membership(Path(directory) / membership.name, membership)
    mesh = _Mesh(authority, keys, authors, packed)
    trio.run(mesh.write, Path(directory) / members[0] / "data", memberships[0])
    return {"deltas": mesh.deltas}


class _Mesh:
    def __init__(self, authority: Authority, keys: int, authors: int, packed: bool) -> None:
        self._authority = authority
        self._keys = keys // authors
        self._packed = packed
        self._authors = [authority.enrol(Identity.generate(), name=f"author-{n:04}", may_write=["**"]) for n in range(authors)]
        self._rng = random.Random(1)
        self.deltas = 0

    async def write(self, data_dir: Path, holder: Membership) -> None:
        directory = Directory(holder.charter)
        statements = (*holder.statements, *(author.credential for author in self._authors))
        directory.restore(statements)
        replica = replica_apart(holder.identity, directory, BIRTH, void_ops=directory.void_ops)
        async with open_store(data_dir) as store, trio.open_nursery() as nursery:
            await nursery.start(store.run)
            for number, author in enumerate(self._authors):
                for delta in self._deltas(author, directory, number):
                    replica.receive(delta)
                    self.deltas += 1
                replica.take_changes()
                store.submit(Batch(journal=tuple(replica.take_journal())))
                if store.congested:
                    await store.flush()
            store.submit(Batch(statements=statements))
            await store.flush()
            nursery.cancel_scope.cancel()

    def _deltas(self, author: Membership, directory: Directory, number: int) -> list[crdt.Delta]:
        writer = replica_apart(author.identity, directory, BIRTH, void_ops=directory.void_ops)
        deltas: list[crdt.Delta] = []
        register = type_named("register").code
        for key in range(self._keys):
            path = (f"robots/r{number:04}/value-{key:03}").split("/")
            writer.draft(register, tuple(path), self._rng.random(), now_wall=WALL + key * WRITE_MICROSECONDS)
            if not self._packed:
                deltas += writer.seal()
        return deltas + writer.seal()
