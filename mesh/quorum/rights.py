"""Who may ask the quorum for what: the same patterns as for ordinary writes, judged by the leader before it takes an entry.

Not part of the state machine: members learn statements at different moments, and what is in the log has to count alike for all.
"""

from __future__ import annotations

from consensus_escalation.block import Entry, Kind
from consensus_escalation.command import command_from_bytes_untrusted
from crdt.ids import ReplicaId
from mesh.errors import Malformed
from mesh.trust import Directory
from mesh.trust.patterns import compile_patterns
from mesh.wire.cbor import decode_untrusted

NOT_PERMITTED = "outside what its author may write"


def is_permitted(directory: Directory, entry: Entry) -> bool:
    """Whether the credential of its author, as known here, covers the path, and the charter leaves the path to the quorum."""
    author = ReplicaId(entry.author)
    grant = directory.credential(author)
    if grant is None or directory.revoked(author):
        return False
    if entry.kind is not Kind.COMMAND:
        return True  # endorsed by the voters' judges, or not at all
    try:
        path = command_from_bytes_untrusted(entry.body, decode_untrusted).path
    except Malformed:
        return False
    return not path or (directory.is_critical(path) and compile_patterns(tuple(grant.terms.may_write)).matches(path))
