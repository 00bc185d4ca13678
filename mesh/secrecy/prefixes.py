"""Which prefixes are encrypted, by what key and for whom: ordinary cells below the reserved path `$keys`.

    $keys / PREFIX... / epoch              register: [number, [replica id of a reader...]]
    $keys / PREFIX... / epoch / reader     register: the key of this epoch, wrapped for this reader

`epoch`: 8 random bytes. Of a prefix the epoch with the highest (number, id) is what writers use; the older ones open what was
written under them. Whoever may write below `$keys/PREFIX` decides who reads PREFIX, so no wildcard matches `$keys`: that right is
given by name (`may_write=["secret/**", "$keys/secret/**"]`), as MQTT keeps `$SYS` from `#`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple, Protocol

from crdt.ids import REPLICA_ID_BYTES, ReplicaId
from crdt.ops import Key, Op, Path
from crdt.types import REGISTER
from crdt.types.paths import format_path
from mesh.errors import ConfigError
from mesh.paths import parse_path
from mesh.secrecy.sealing import EPOCH_BYTES

RESERVED: Final = "$keys"
SEGMENTS_MAX: Final = 13
"""Of a prefix: a path has 16."""
READERS_MAX: Final = 64
"""Of one prefix. The list fits a delta (9 bytes each), and a new epoch costs a cell per reader."""


class Cells(Protocol):
    """What is asked of a replica."""

    def keys(self, prefix: Path, /) -> Iterable[Key]: ...
    def shown(self, key: Key, /) -> Iterable[Op]: ...


class Epoch(NamedTuple):
    number: int
    id: bytes
    readers: tuple[ReplicaId, ...]


def parse_pattern(pattern: str) -> Path:
    """The prefix of `secret/**`. Raises ConfigError."""
    path = parse_path(pattern)
    if len(path) < 2 or path[-1] != "**" or any(isinstance(each, str) and "*" in each for each in path[:-1]):
        raise ConfigError(f"{pattern!r} cannot be encrypted: write a prefix and /**, for example secret/**")
    if isinstance(path[0], str) and path[0].startswith("$"):
        raise ConfigError(f"{pattern!r} cannot be encrypted: paths that begin with $ are the mesh's own")
    if len(path) - 1 > SEGMENTS_MAX:
        raise ConfigError(f"{pattern!r} has more than {SEGMENTS_MAX} segments")
    return path[:-1]


def format_pattern(prefix: Path) -> str:
    return f"{format_path(prefix)}/**"


def epoch_key(prefix: Path, epoch: bytes) -> Key:
    return REGISTER.code, (RESERVED, *prefix, epoch)


def wrap_key_of(prefix: Path, epoch: bytes, reader: ReplicaId) -> Key:
    return REGISTER.code, (RESERVED, *prefix, epoch, reader)


def newest_of(cells: Cells, key: Key) -> Any:
    """The register's value at a key; None without one."""
    return max(((op.time, op.origin, op.payload) for op in cells.shown(key)), key=lambda each: each[:2], default=(0, b"", None))[
        2
    ]


def epochs_untrusted(cells: Cells) -> dict[Path, list[Epoch]]:
    """Every epoch of every prefix, the one in use last. What is no such record is skipped: anybody with the right wrote it."""
    found: dict[Path, list[Epoch]] = {}
    for key in cells.keys((RESERVED,)):
        prefix, name = key[1][1:-1], key[1][-1]
        if key[0] != REGISTER.code or not prefix or not isinstance(name, bytes) or len(name) != EPOCH_BYTES:
            continue
        if not all(isinstance(each, str) for each in prefix):
            continue  # a wrap, whose reader's id is as long as an epoch's
        match newest_of(cells, key):
            case [int(number), tuple(readers)] if number > 0 and len(readers) <= READERS_MAX and all(map(_is_replica, readers)):
                found.setdefault(prefix, []).append(Epoch(number, name, tuple(map(ReplicaId, readers))))
    for epochs in found.values():
        epochs.sort()
    return found


def _is_replica(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == REPLICA_ID_BYTES
