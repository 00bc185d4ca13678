"""Files of proposals: what the keys of an authority of several are to sign (`mesh.trust.countersigning`).

KEYS/proposals/SERIAL.proposal   one line without secrets: copy it to whoever holds a key, who adds a signature
KEYS/proposals/SERIAL.token      mode 0600: the token of an invite, worth nothing until the invite is signed
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mesh.trust import keyfiles
from mesh.trust.countersigning import Proposal, countersign, read_proposal, says, write_proposal
from mesh.trust.identity import Identity
from mesh.trust.statements import charter_from_bytes, statement_id
from mesh.trust.token import with_invite

PROPOSALS: Final = "proposals"
PROPOSAL_SUFFIX: Final = ".proposal"
TOKEN_SUFFIX: Final = ".token"


def create(directory: Path, charter: bytes, proposed: Sequence[bytes]) -> None:
    """A new file for statements that lack signatures. Raises ConfigError."""
    keyfiles.make_directory(directory / PROPOSALS)
    line = write_proposal(Proposal(charter, tuple(proposed)))
    keyfiles.create_file(path_of(directory, proposed), f"{line}\n".encode(), keyfiles.PUBLIC_MODE)


def path_of(directory: Path, proposed: Sequence[bytes]) -> Path:
    """Where `create` puts them."""
    return directory / PROPOSALS / f"{_serial(proposed[0])}{PROPOSAL_SUFFIX}"


def keep_token(proposal: Path, token: str) -> None:
    """Keeps the token of an invite until it is signed. Raises ConfigError."""
    keyfiles.create_file(proposal.with_suffix(TOKEN_SUFFIX), f"{token}\n".encode(), keyfiles.SECRET_MODE)


def load(path: Path) -> Proposal:
    """A proposal, its signatures checked. Raises ConfigError."""
    return read_proposal(keyfiles.read_public(path).decode("ascii", "replace"), str(path))


def sign(path: Path, proposal: Proposal, key: Identity) -> Proposal:
    """Adds the signature of a key to what was loaded, and replaces the file. Raises ConfigError."""
    charter = charter_from_bytes(proposal.charter)
    signed = proposal._replace(statements=tuple(countersign(raw, key, charter) for raw in proposal.statements))
    keyfiles.replace_file(path, f"{write_proposal(signed)}\n".encode(), keyfiles.PUBLIC_MODE)
    return signed


def serial_max(directory: Path) -> int:
    """The highest serial that is proposed here. Raises ConfigError."""
    return max((_serial(raw) for path in _paths(directory) for raw in load(path).statements), default=0)


def settle(directory: Path, signed: Sequence[bytes]) -> list[str]:
    """These are in force: removes their files. Gives the tokens of invites among them. Raises ConfigError."""
    raws, tokens = {statement_id(raw): raw for raw in signed}, []
    for path in _paths(directory):
        ours = [statement_id(raw) for raw in load(path).statements]
        if not raws.keys() >= set(ours):
            continue
        kept = path.with_suffix(TOKEN_SUFFIX)
        if kept.exists():
            tokens.append(with_invite(keyfiles.read_secret(kept).decode(), raws[ours[0]]))
        keyfiles.remove_file(path)
        keyfiles.remove_file(kept)
    return tokens


def _paths(directory: Path) -> list[Path]:
    return sorted((directory / PROPOSALS).glob(f"*{PROPOSAL_SUFFIX}"))


def _serial(raw: bytes) -> int:
    serial: int = getattr(says(raw), "serial", 0)
    return serial
