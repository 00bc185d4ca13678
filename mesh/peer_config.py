"""What one start of an agent is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import crdt
from consensus_escalation.policy import Predicate
from mesh.effects import Address
from mesh.events import Event
from mesh.presets import LAN, Preset
from mesh.trust import Directory, Membership
from mesh.wire.crypto import LIBSODIUM, Crypto
from mesh.wire.delta import delta_bytes, delta_from_bytes_untrusted


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """What one start of an agent is made of. `birth` and `boot_id` are fresh random values."""

    membership: Membership
    address: Address
    """Where others reach this agent."""
    birth: int
    boot_id: bytes
    entropy: Callable[[int], bytes]
    """Makes secrets: the operating system's randomness, or a seeded stand-in under simulation."""
    seeds: tuple[Address, ...] = ()
    preset: Preset = LAN
    coalesce_seconds: float = 0.005
    """Writes that follow within this long of a delta share the next one (DESIGN section 2)."""
    durable: bool = False
    """There is a disk: acknowledge only what the store reported as committed."""
    predicates: Mapping[str, Predicate] = field(default_factory=dict)
    """What this mesh's own rules may call (`mesh.critical.predicates`)."""
    crypto: Crypto = LIBSODIUM
    read_delta_untrusted: Callable[[bytes], crdt.Delta] = delta_from_bytes_untrusted
    """Checks all but the signature; raises Malformed. A simulator injects one that remembers."""
    write_delta: Callable[[crdt.Delta], bytes] = delta_bytes
    trust: Directory | None = None
    """What this start knows of keys before it looks at its disk. Simulated meshes share one; None: its own charter."""

    def directory(self, notify: Callable[[Event], None]) -> Directory:
        identity = self.membership.identity
        if self.trust is not None:
            return self.trust.branch(identity=identity, notify=notify)
        return Directory(self.membership.charter, identity=identity, notify=notify, crypto=self.crypto)
