"""Trust: who belongs to the mesh and may write where, decided by signed statements that every member holds.

identity      an agent's key                       authority     issues statements
statements    what they say, on the wire           token         an invite as one line; redeeming it
statement_set what peers compare                   membership    what an agent holds of all this
contest       one invite used by two keys          patterns      paths that a credential may write
containment   whether some patterns contain others  delegation    a member lets others in below itself (letting_in: its token)
succession    which keys are the authority's       handing_over  replacing it, by itself or by the recovery key
verify        who may make which statement         endings       proofs of forking, cuts
rotation      asking the authority for a further key   countersigning  an authority of several keys: what they sign
ledger        what follows from the set            files         the above in a directory, through keyfiles
questions     what follows, as the peer core asks   directory     the set with its two doors
"""

from mesh.trust.authority import Authority
from mesh.trust.directory import Directory
from mesh.trust.files import (
    adopt_next_key,
    init_dir,
    list_key_files,
    load_authority,
    load_membership,
    open_authority,
    prepare_next_key,
    save_membership,
)
from mesh.trust.identity import Identity, key_id
from mesh.trust.keys import KeyInfo, KeyState
from mesh.trust.limits import Limits
from mesh.trust.matching import PathPatterns
from mesh.trust.membership import Membership
from mesh.trust.patterns import compile_patterns
from mesh.trust.standing import Admission, Grant, Verdict
from mesh.trust.statements import STATEMENT_BYTES_MAX, STATEMENT_ID_BYTES, Charter, Statement, StatementId
from mesh.trust.token import Token, read_token, redeem

__all__ = [
    "STATEMENT_BYTES_MAX",
    "STATEMENT_ID_BYTES",
    "Admission",
    "Authority",
    "Charter",
    "Directory",
    "Grant",
    "Identity",
    "KeyInfo",
    "KeyState",
    "Limits",
    "Membership",
    "PathPatterns",
    "Statement",
    "StatementId",
    "Token",
    "Verdict",
    "adopt_next_key",
    "compile_patterns",
    "init_dir",
    "key_id",
    "list_key_files",
    "load_authority",
    "load_membership",
    "open_authority",
    "prepare_next_key",
    "read_token",
    "redeem",
    "save_membership",
]
