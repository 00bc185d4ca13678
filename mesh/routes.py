"""How members are reached: by the keys that the statements give them, where membership says that they live."""

from __future__ import annotations

from collections.abc import Callable

from crdt.ids import ReplicaId
from mesh.effects import Address, Now
from mesh.trust import Admission, Directory
from mesh.wire.transport import Transport


class Routes:
    """The transport asks at the first use of a member (`find`); of whom it has an entry it is told (`moved`, `rekeyed`)."""

    def __init__(self, directory: Directory, address_of: Callable[[ReplicaId], Address | None], now: Callable[[], Now]) -> None:
        self._directory, self._address_of, self._now = directory, address_of, now
        self.transport: Transport
        """Set by whoever makes it."""

    def find(self, peer: ReplicaId) -> tuple[bytes, Address] | None:
        """The key and the address to begin with; None for who is no member, or told no address."""
        public_key = self._key(peer)
        address = self._address_of(peer) if public_key is not None else None
        if public_key is None or address is None or self._directory.admission(peer, self._now()) is not Admission.MEMBER:
            return None
        return public_key, address

    def moved(self, peer: ReplicaId) -> None:
        """It may live elsewhere now."""
        if self.transport.key_of(peer) is not None and (route := self.find(peer)) is not None:
            self.transport.route(peer, *route)

    def rekeyed(self, peer: ReplicaId) -> None:
        """It may have other keys now."""
        if self.transport.key_of(peer) is not None and (key := self._key(peer)) is not None:
            self.transport.rekey(peer, key)

    def admit(self, public_key: bytes, presentation: bytes, now: Now) -> ReplicaId | None:
        """Who that is, or None to refuse."""
        replica = self._directory.admit(public_key, presentation, now)
        if replica is not None:
            self.transport.rekey(replica, public_key)  # one of its keys that are in force, perhaps another than last time
        return replica

    def _key(self, peer: ReplicaId) -> bytes | None:
        """The one it used last, as long as that is open."""
        open_keys, used = self._directory.open_keys(peer), self.transport.key_of(peer)
        return used if used in open_keys else next(iter(open_keys), None)
