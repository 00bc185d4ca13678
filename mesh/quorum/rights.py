"""Who may ask the quorum for what: the same patterns as for ordinary writes, judged by the leader before it takes an entry.

Not part of the state machine: members learn statements at different moments, and what is in the log has to count alike for all.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus_escalation.block import Entry, Kind
from consensus_escalation.command import command_from_bytes_untrusted
from crdt.ids import ReplicaId
from mesh.errors import Malformed
from mesh.trust import Directory
from mesh.trust.patterns import compile_patterns
from mesh.wire.cbor import decode_untrusted

NOT_PERMITTED = "outside what its author may write"


def is_permitted(directory: Directory, batch: Sequence[Entry]) -> bool:
    """Whether the credential of their author, as known here, covers the paths, and the charter leaves these to the quorum."""
    author = ReplicaId(batch[0].author)
    grant = directory.credential(author)
    if grant is None or directory.revoked(author) or any(entry.author != author for entry in batch):
        return False
    patterns = compile_patterns(tuple(grant.terms.may_write))
    for entry in batch:
        if entry.kind is not Kind.COMMAND:
            continue  # endorsed by the voters' judges, or not at all
        try:
            path = command_from_bytes_untrusted(entry.body, decode_untrusted).path
        except Malformed:
            return False
        if path and not (directory.is_critical(path) and patterns.matches(path)):
            return False
    return True
