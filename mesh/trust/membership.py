"""What an agent holds to take part in a mesh: its own key and what others signed about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from consensus_escalation.anchor import Anchor
from crdt.ids import ReplicaId
from mesh.effects import Address
from mesh.errors import Malformed
from mesh.trust.identity import Identity
from mesh.trust.statements import charter_from_bytes
from mesh.wire import cbor
from mesh.wire.cose import SEVERAL_START

PRESENTED_MAX: Final = 4
"""Statements in one presentation: invite, enrolment, and room for a charter and a delegation."""
_TAG_18: Final = b"\xd2"
"""How a COSE_Sign1 begins."""


@dataclass(frozen=True)
class Membership:
    """One agent's place in one mesh. Made by `Authority.enrol`, `redeem`, or loaded by `mesh.trust.files`."""

    identity: Identity
    name: str
    charter: bytes
    """The root of trust: a charter statement, as it travels."""
    credential: bytes
    """The credential, or the enrolment by an invite."""
    statements: tuple[bytes, ...]
    """All that the agent knows at its start, issuers first: the charter, the invite if there was one, the credential, and
    others."""
    invite: bytes | None = None
    """The invite that the credential is an enrolment by."""
    seeds: tuple[Address, ...] = ()
    """Addresses that the token named."""

    former: tuple[Identity, ...] = ()
    """Keys of this agent that were in use before: they open what was encrypted to them."""
    anchor: Anchor | None = None
    """The block of the quorum's log that the token named: no history that contradicts it is taken."""

    @property
    def keys(self) -> tuple[Identity, ...]:
        """The present key, then the former ones."""
        return self.identity, *self.former

    @property
    def replica_id(self) -> ReplicaId:
        return self.identity.replica_id

    @cached_property
    def mesh_id(self) -> bytes:
        """16 bytes."""
        return charter_from_bytes(self.charter).mesh_id

    @cached_property
    def presentation(self) -> bytes:
        """What it shows when it opens a session: for `Directory.admit` of the other side."""
        return present((self.credential,) if self.invite is None else (self.invite, self.credential))


def present(statements: Sequence[bytes]) -> bytes:
    """What an agent shows when it opens a session: its own statements, issuers first."""
    return cbor.encode(list(statements))


def presented_untrusted(presentation: bytes) -> list[bytes]:
    """The statements in a presentation, or the one that it is. Raises Malformed."""
    if presentation.startswith((_TAG_18, SEVERAL_START)):
        return [presentation]
    raws: Any = cbor.decode_untrusted(presentation)
    if not isinstance(raws, tuple) or not 1 <= len(raws) <= PRESENTED_MAX or not all(type(raw) is bytes for raw in raws):
        raise Malformed(f"a presentation is 1 to {PRESENTED_MAX} statements")
    return list(raws)
