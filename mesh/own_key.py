"""The key that this agent signs with, and its change while it runs.

the authority puts a further key into force      a credential; this agent goes on with its former key until
the agent takes it up (`Peer.rekey`)             and closes the former one: what that signed counts up to here
the agent was away, or lost its disk             it closes the former key when it knows again what it wrote
"""

from __future__ import annotations

import crdt
from mesh.effects import Now
from mesh.errors import ConfigError
from mesh.trust import Directory, Identity, Membership
from mesh.trust.statements import HONOURED_MAX, honoured_of


class OwnKey:
    def __init__(self, membership: Membership, replica: crdt.Replica, directory: Directory) -> None:
        self.membership = membership
        """What this agent is now."""
        self.former_open = True
        """Perhaps there is a former key of this replica that is to be closed."""
        self._replica = replica
        self._directory = directory

    @property
    def identity(self) -> Identity:
        return self.membership.identity

    def replaced_by(self) -> bytes | None:
        """Another key of this replica that is in force instead."""
        key = self._directory.public_key(self.identity.replica_id)
        return None if key == self.identity.public_key else key

    def is_in_force(self, membership: Membership, now: Now) -> bool:
        """Learns what is said of that key; whether it is another one than now. Raises ConfigError, Malformed, Refused."""
        identity, me = membership.identity, self.identity.replica_id
        if identity.replica_id != me:
            raise ConfigError(f"that key is of replica {identity.replica_id.hex()}, this is {me.hex()}")
        for raw in membership.statements:
            self._directory.add_untrusted(raw, now)
        if self._directory.public_key(me) != identity.public_key:
            raise ConfigError("the authority has not put that key into force, or another one since")
        return identity != self.identity

    def gather(self) -> int:
        """Drafts again what is left of former starts, where it is of too many to list. The number of ops."""
        many = len(self._replica.written_by(self.identity.replica_id)) > HONOURED_MAX
        return self._replica.unhost() if many else 0

    def become(self, membership: Membership, now: Now, *, complete: bool) -> None:
        """Signs with that key from now on. `complete`: all that this replica ever wrote is here."""
        self.membership = membership
        self._directory.become(membership.identity)
        self.former_open = True
        if complete:
            self.close_former(now)

    def close_former(self, now: Now) -> int:
        """After a rotation, once: what the former keys signed counts up to what is here of it. Only while all of it is here. When
        that is too much to list, gives the number of ops that it drafted again, and wants to be called once they are sealed."""
        self.former_open = self._directory.has_open_former_keys(self.identity)
        if not self.former_open:
            return 0
        written = self._replica.written_by(self.identity.replica_id)
        if len(written) > HONOURED_MAX:
            return self._replica.unhost()
        self.former_open = False
        self._directory.close_former_keys(self.identity, honoured_of(written), now)
        return 0
