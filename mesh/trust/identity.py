"""Who an agent is: an Ed25519 key. Everything else about an agent is said by somebody's signature over this key."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, NoReturn

from crdt.ids import REPLICA_ID_BYTES, ReplicaId
from mesh.errors import ConfigError
from mesh.trust import keyfiles
from mesh.trust.armour import armour, unarmour
from mesh.wire.crypto import LIBSODIUM, PUBLIC_KEY_BYTES, SEED_BYTES, Crypto

MEMBER_KEY_PREFIX: Final = "meshkey1-"
AUTHORITY_KEY_PREFIX: Final = "meshauthority1-"
RECOVERY_KEY_PREFIX: Final = "meshrecovery1-"
"""Of another family, so that one kind of key is never loaded for the other."""


def key_id(public_key: bytes) -> ReplicaId:
    """8 bytes of BLAKE2b: names a key in replica ids and in the `kid` of signatures."""
    return ReplicaId(hashlib.blake2b(public_key, digest_size=REPLICA_ID_BYTES).digest())


def checked_replica(replica: object) -> ReplicaId:
    """What a program names a member by. Raises ConfigError, which shows no bytes: they may be a secret in the wrong place."""
    if not isinstance(replica, bytes) or len(replica) != REPLICA_ID_BYTES:
        shown = f"{len(replica)} bytes are" if isinstance(replica, bytes) else f"{replica!r:.80} is"
        raise ConfigError(f"{shown} no member's id: pass {REPLICA_ID_BYTES} bytes, such as member.replica")
    return ReplicaId(replica)


def checked_public_key(public_key: object) -> bytes:
    """Raises ConfigError."""
    if not isinstance(public_key, bytes) or len(public_key) != PUBLIC_KEY_BYTES:
        raise ConfigError(f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes: pass identity.public_key")
    return public_key


class Identity:
    """An Ed25519 key pair. Immutable; the secret half shows in no repr, comparison or pickle."""

    __slots__ = ("_crypto", "_secret_key", "public_key", "replica_id", "seed")

    seed: bytes
    """The secret, 32 bytes."""
    public_key: bytes
    """32 bytes."""
    replica_id: ReplicaId
    """The id of the replica's first key; later keys sign in its name (`of_replica`)."""

    def __init__(self, seed: bytes, crypto: Crypto = LIBSODIUM, replica_id: ReplicaId | None = None) -> None:
        if not isinstance(seed, bytes) or len(seed) != SEED_BYTES:
            found = len(seed) if isinstance(seed, bytes) else type(seed).__name__
            raise ConfigError(f"an Ed25519 seed has {SEED_BYTES} bytes, not {found}: let mesh.Identity.generate() make one")
        self._crypto = crypto
        self.seed = seed
        self.public_key, self._secret_key = crypto.keypair(seed)
        self.replica_id = key_id(self.public_key) if replica_id is None else replica_id

    def of_replica(self, replica_id: ReplicaId) -> Identity:
        """The same key, as a further one of a replica whose first key was another."""
        return Identity(self.seed, self._crypto, replica_id)

    @classmethod
    def generate(cls, entropy: bytes | None = None, crypto: Crypto = LIBSODIUM) -> Identity:
        """A new key. `entropy`: the 32 bytes to make it of, for simulations; without, the operating system's randomness."""
        return cls(os.urandom(SEED_BYTES) if entropy is None else entropy, crypto)

    def sign(self, message: bytes) -> bytes:
        """The bare Ed25519 signature, 64 bytes."""
        return self._crypto.sign(self._secret_key, message)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a new key file of mode 0600. Raises ConfigError, also when there is a file already."""
        keyfiles.create_file(Path(path), self.to_text(MEMBER_KEY_PREFIX), keyfiles.SECRET_MODE)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Identity:
        """Reads a key file. Raises ConfigError, also when the file is open to others than its owner."""
        return cls.from_text(keyfiles.read_secret(Path(path)), MEMBER_KEY_PREFIX, str(path))

    def to_text(self, prefix: str) -> bytes:
        return f"{armour(prefix, self.seed)}\n".encode()

    @classmethod
    def from_text(cls, text: bytes, prefix: str, what: str) -> Identity:
        """Raises ConfigError about `what`."""
        seed = unarmour(prefix, text.decode("ascii", "replace"), what)
        if len(seed) != SEED_BYTES:
            raise ConfigError(f"{what} is damaged: it holds {len(seed)} bytes instead of {SEED_BYTES}")
        return cls(seed)

    def __repr__(self) -> str:
        return f"<Identity {self.replica_id.hex()}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and other.public_key == self.public_key

    def __hash__(self) -> int:
        return hash(self.public_key)

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Identity is not pickled: save() it to a file of mode 0600")
