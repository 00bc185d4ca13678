"""Deciding who reads a prefix: a new key, or the keys that there are for more readers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from crdt.ids import ReplicaId
from crdt.ops import Key, Path
from mesh.errors import ConfigError, NotPermitted
from mesh.secrecy.prefixes import READERS_MAX, epoch_key, format_pattern, newest_of, wrap_key_of
from mesh.secrecy.sealing import EPOCH_BYTES, is_wrapped_for, where_of, wrap_key
from mesh.secrecy.vault import Vault
from mesh.trust import Directory
from mesh.wire.crypto import KEY_BYTES


class Writer(Protocol):
    """What is asked of an agent: `mesh.peer.Peer` with a clock."""

    def __call__(self, type_code: int, path: Path, payload: Any, /) -> object: ...


def encrypt(
    vault: Vault, prefix: Path, readers: Collection[ReplicaId], *, me: ReplicaId, directory: Directory, write: Writer
) -> int:
    """Makes `readers`, and this agent, the readers of what is below `prefix`. Gives the number of the epoch in use.

    Who is no reader any more cannot read what is written later (a new key); what it could read it still can. A new reader gets
    every key that is here, so it can read what is there already. Called again with the same readers, it wraps the keys for those
    that have a new key of their own. Raises ConfigError for a reader that is no member and for critical paths, NotPermitted
    without the right.
    """
    if directory.is_critical_below(prefix):
        raise ConfigError(f"{format_pattern(prefix)} has critical paths: what the quorum agrees on is readable for all members")
    wanted = tuple(sorted({me, *readers}))
    if len(wanted) > READERS_MAX:
        raise ConfigError(f"{format_pattern(prefix)}: {len(wanted)} readers are too many: at most {READERS_MAX}")
    public_keys = {reader: _public_key(directory, reader) for reader in wanted}
    epoch = vault.prefixes().get(prefix)
    held = vault.keys_of(prefix)
    if epoch is not None and epoch.id not in held:
        raise NotPermitted(f"{format_pattern(prefix)} is encrypted already, and this agent is no reader of it: ask one that is")
    number, current = (epoch.number, epoch.id) if epoch is not None else (0, b"")
    if epoch is None or set(epoch.readers) - set(wanted):
        number, current = number + 1, vault.entropy(EPOCH_BYTES)
        held[current] = vault.entropy(KEY_BYTES)
    # The list last: who sees the epoch in use has its key already.
    for name in sorted(held, key=lambda each: each == current):
        for reader, public_key in public_keys.items():
            place = wrap_key_of(prefix, name, reader)
            if not is_wrapped_for(newest_of(vault.cells, place), public_key):
                where = where_of(directory.mesh_id, prefix, name)
                wrapped = wrap_key(held[name], public_key, where, vault.entropy, vault.crypto)
                if wrapped is None:
                    raise ConfigError(f"the key of {directory.name(reader)} is not one that anything can be encrypted to")
                write(*place, wrapped)
    listed: Key = epoch_key(prefix, current)
    if epoch is None or (number, wanted) != (epoch.number, epoch.readers):
        write(*listed, [number, list(wanted)])
    vault.noticed([listed])
    return number


def _public_key(directory: Directory, reader: ReplicaId) -> bytes:
    public_key = directory.public_key(reader)
    if public_key is None or directory.revoked(reader):
        raise ConfigError(f"{directory.name(reader)} is no member: only a member can be a reader")
    return public_key
