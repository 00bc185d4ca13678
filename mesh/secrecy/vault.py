"""The prefix keys that this replica holds, and what it does with them: seal what it writes, open what it reads.

The keys themselves are nowhere but in memory: at every start they are unwrapped again out of the cells below `$keys`. Nothing
here is needed to verify, merge, store or pass on: a replica without a key carries what it cannot read like everything else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, overload

from crdt.ids import Dot, ShelfId, dot_index, dot_seq
from crdt.ops import Key, Op, Path, Value
from crdt.types import ADD_WINS_SET, BOUNDED_COUNTER, DISABLE_WINS_FLAG, ENABLE_WINS_FLAG, REMOVE_WINS_SET
from crdt.types.paths import format_path
from mesh.errors import KeyMissing, Malformed, NotPermitted, UnsupportedValue
from mesh.secrecy.prefixes import RESERVED, Cells, Epoch, epochs_untrusted, format_pattern, newest_of, wrap_key_of
from mesh.secrecy.sealing import MAGIC, epoch_of, open_value_untrusted, place_of, seal_value, unwrap_key_untrusted, where_of
from mesh.trust.identity import Identity
from mesh.wire.crypto import NONCE_BYTES, Crypto

IN_THE_PATH: Final = {
    ADD_WINS_SET.code: "the elements of a set are in paths",
    REMOVE_WINS_SET.code: "the elements of a set are in paths",
    ENABLE_WINS_FLAG.code: "whether a flag is set shows without its payload",
    DISABLE_WINS_FLAG.code: "whether a flag is set shows without its payload",
    BOUNDED_COUNTER.code: "others must see what a bounded counter spent",
}
"""Types that encryption would not hide: refused rather than half kept."""
OPENED_MAX: Final = 4_096
"""Values kept open. A read of a register costs 10 us the first time, 1 us again."""


class _Closed(Sequence[Op]):
    """Cells that cannot all be read here: that they are there shows, what they hold does not."""

    def __init__(self, ops: Sequence[Op], missing: Op) -> None:
        self._count = len(ops)
        self._missing = missing

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Op: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Op]: ...
    def __getitem__(self, index: int | slice) -> Op | Sequence[Op]:
        op = self._missing
        raise KeyMissing(
            f"{format_path(op.path)} is encrypted, and its key is not here: a reader must let this agent in, `mesh keys encrypt`",
            epoch_of(op.payload) or b"",
            Dot(op.origin, dot_seq(op.dot), dot_index(op.dot)),
        )


class Vault:
    def __init__(self, cells: Cells, mesh_id: bytes, crypto: Crypto, entropy: Callable[[int], bytes]) -> None:
        self.cells = cells
        self._mesh_id = mesh_id
        self.crypto = crypto
        self.entropy = entropy
        self._identities: list[Identity] = []
        self._epochs: dict[Path, list[Epoch]] = {}
        self._keys: dict[tuple[Path, bytes], bytes] = {}
        """By prefix and epoch: whoever chooses readers of one prefix can give an epoch there the name of another prefix's."""
        self._opened: OrderedDict[tuple[ShelfId, int, Path], Any] = OrderedDict()
        self._stale = True
        self.forged = 0
        """Values that did not open with their key."""

    def become(self, identities: Sequence[Identity]) -> None:
        """Whose keys it is: this replica's, the present one first, then former ones."""
        self._identities = list(identities)
        self._stale = True

    def noticed(self, keys: Iterable[Key]) -> list[Path]:
        """Told of every key whose cells changed: what is encrypted, or for whom, may be another now. Gives the prefixes of which
        a key arrived."""
        for _, path in keys:
            if path[0] == RESERVED:
                break
        else:
            return []
        self._stale, before = True, set(self._keys)
        self._refresh()
        return sorted({prefix for prefix, _ in self._keys.keys() - before}, key=repr)

    def prefixes(self) -> dict[Path, Epoch]:
        """What is encrypted, and the epoch that writers use."""
        self._refresh()
        return {prefix: epochs[-1] for prefix, epochs in self._epochs.items()}

    def keys_of(self, prefix: Path) -> dict[bytes, bytes]:
        """The keys of a prefix that are here, by epoch."""
        self._refresh()
        names = [epoch.id for epoch in self._epochs.get(prefix, ())]
        return {name: self._keys[prefix, name] for name in names if (prefix, name) in self._keys}

    # --- writing

    def seal(self, key: Key, value: Value, origin: ShelfId) -> Value:
        """What is written instead of `value` here. Raises NotPermitted without the key, UnsupportedValue for what it cannot
        hide."""
        type_code, path = key
        prefix = self._prefix(path)
        if prefix is None:
            return value
        if type_code in IN_THE_PATH:
            raise UnsupportedValue(f"{format_path(path)} is encrypted, but {IN_THE_PATH[type_code]}: use a register, map or list")
        epoch = self._epochs[prefix][-1].id
        if (prefix, epoch) not in self._keys:
            raise NotPermitted(f"{format_path(path)} is encrypted, and this agent is no reader of {format_pattern(prefix)}")
        if isinstance(value, bytes) and value.startswith(MAGIC):
            raise UnsupportedValue("a byte string that begins like an encrypted value")
        return seal_value(
            self._keys[prefix, epoch], epoch, self.entropy(NONCE_BYTES), value, place_of(self._mesh_id, key, origin)
        )

    # --- reading

    def forget_opened(self) -> None:
        """Every value is opened anew when it is read next."""
        self._opened.clear()

    def open(self, ops: Sequence[Op]) -> Sequence[Op]:
        """The same cells with open payloads. Where a key is not here, whoever looks at one of them gets KeyMissing; how many they
        are shows all the same."""
        if not (self._stale or self._epochs) or not any(epoch_of(op.payload) for op in ops):
            return ops
        self._refresh()
        missing = next((op for op in ops if self._is_closed(op)), None)
        if missing is not None:
            return _Closed(ops, missing)
        return [opened for op in ops if (opened := self._open(op)) is not None]

    def _is_closed(self, op: Op) -> bool:
        epoch = epoch_of(op.payload)
        return epoch is not None and self._prefix(op.path) is not None and not self._candidates(epoch, op.path)

    def _candidates(self, epoch: bytes, path: Path) -> list[bytes]:
        """The keys of this epoch that are here, of any prefix of the path, the longest first: the shorter one was in use before
        there was a longer."""
        places = ((path[:length], epoch) for length in range(len(path), 0, -1))
        return [self._keys[place] for place in places if place in self._keys]

    def _open(self, op: Op) -> Op | None:
        """None: altered, or moved from where its author put it. It counts as not written."""
        epoch, payload = epoch_of(op.payload), op.payload
        if epoch is None or not isinstance(payload, bytes) or self._prefix(op.path) is None:
            return op
        name = (op.origin, op.dot, op.path)
        if name in self._opened:
            self._opened.move_to_end(name)
            return op._replace(payload=self._opened[name])
        place = place_of(self._mesh_id, op.key, op.origin)
        for key in self._candidates(epoch, op.path):
            try:
                value = open_value_untrusted(key, payload, place)
            except Malformed:
                continue  # perhaps another prefix has an epoch of this name
            self._opened[name] = value
            if len(self._opened) > OPENED_MAX:
                self._opened.popitem(last=False)
            return op._replace(payload=value)
        self.forged += 1
        return None

    # --- keys

    def _prefix(self, path: Path) -> Path | None:
        """The longest encrypted prefix of a path."""
        self._refresh()
        if not self._epochs or path[:1] == (RESERVED,):
            return None
        return next((path[:length] for length in range(len(path), 0, -1) if path[:length] in self._epochs), None)

    def _refresh(self) -> None:
        if not self._stale:
            return
        self._stale = False
        self._epochs = epochs_untrusted(self.cells)
        for prefix, epochs in self._epochs.items():
            for epoch in epochs:
                if (prefix, epoch.id) not in self._keys and (key := self._unwrap(prefix, epoch.id)) is not None:
                    self._keys[prefix, epoch.id] = key

    def _unwrap(self, prefix: Path, epoch: bytes) -> bytes | None:
        for me in self._identities:
            wrap = newest_of(self.cells, wrap_key_of(prefix, epoch, me.replica_id))
            key = unwrap_key_untrusted(wrap, me, where_of(self._mesh_id, prefix, epoch), self.crypto)
            if key is not None:
                return key
        return None
