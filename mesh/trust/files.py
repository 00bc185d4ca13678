"""The trust files of one agent's directory.

    member.key       the agent's secret key, mode 0600
    member.next.key  only during a rotation: the key that takes its place once the authority has put it into force
    member.former.*  keys that were in use before; they open values that were encrypted to them, and sign nothing any more
    charter          the root of trust: one charter statement as it travels (COSE_Sign1), readable by any COSE library
    statements       what else is known at a start: credential, or invite and enrolment, others', and the seeds of a token
    anchor           only of who joined by a token: the block of the quorum's log that it named
    authority.key    only where `mesh init` ran: the authority's secret key, mode 0600. Keep a copy offline; it may be moved away
    authority.next.key  only while that is being replaced
    authority-N.key  of an authority of several keys: those that are still here. Each belongs to somebody else, somewhere else
    proposals/       what lacks signatures of theirs; beside an invite, mode 0600, the token that it is for
    authority.lock   held while a command issues statements, so that no serial is used twice

A running node keeps what it learns in its own store, not here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from consensus_escalation.anchor import Anchor, anchor_from_value_untrusted
from mesh.effects import Address, Now
from mesh.errors import ConfigError, Malformed, MeshError
from mesh.trust import keyfiles, proposals
from mesh.trust.authority import Authority
from mesh.trust.countersigning import Proposal, missing
from mesh.trust.directory import Directory
from mesh.trust.handing_over import hand_over
from mesh.trust.identity import AUTHORITY_KEY_PREFIX, MEMBER_KEY_PREFIX, RECOVERY_KEY_PREFIX, Identity
from mesh.trust.keys import KeyInfo
from mesh.trust.limits import Limits
from mesh.trust.membership import Membership
from mesh.trust.statements import charter_from_bytes
from mesh.trust.token import checked_address
from mesh.wire import cbor

MEMBER_KEY: Final = "member.key"
NEXT_KEY: Final = "member.next.key"
FORMER_KEY: Final = "member.former.{}.key"
AUTHORITY_KEY: Final = "authority.key"
AUTHORITY_NEXT: Final = "authority.next.key"
AUTHORITY_SEVERAL: Final = "authority-{}.key"
PROPOSALS: Final = "proposals"
PROPOSAL_SUFFIX: Final = ".proposal"
TOKEN_SUFFIX: Final = ".token"
AUTHORITY_LOCK: Final = "authority.lock"
CHARTER: Final = "charter"
STATEMENTS: Final = "statements"
ANCHOR: Final = "anchor"
_STATEMENTS_HEAD: Final = b"gossipmesh statements 1\n"


def init_dir(
    directory: str | Path,
    name: str,
    *,
    critical: Sequence[str] = (),
    limits: Limits | None = None,
    may_write: Sequence[str] = ("**", "$keys/**"),
    voter: bool = True,
    score: int = 0,
    recovery: str | Path | None = None,
    threshold: int = 1,
    authority_keys: int = 1,
) -> Membership:
    """Makes a new mesh and its first member in a directory that holds neither. `recovery`: a file for the secret half of a
    second key, which can replace the authority's. `authority_keys`: how many the authority has, `threshold` of which must sign.
    Raises ConfigError; then nothing was written, or what the message names."""
    directory = Path(directory)
    second = None if recovery is None else Identity.generate()
    # Everything that can be wrong with the arguments shows before the first file.
    authority = Authority.generate(
        critical=critical,
        limits=limits,
        recovery=None if second is None else second.public_key,
        threshold=threshold,
        keys=authority_keys,
    )
    membership = authority.enrol(Identity.generate(), name=name, may_write=may_write, voter=voter, score=score)
    _check_unused(directory)
    keyfiles.make_directory(directory)
    if recovery is not None and second is not None:
        keyfiles.create_file(Path(recovery), second.to_text(RECOVERY_KEY_PREFIX), keyfiles.SECRET_MODE)
    for number, key in enumerate(authority.identities, 1):
        path = directory / (AUTHORITY_KEY if authority_keys == 1 else AUTHORITY_SEVERAL.format(number))
        keyfiles.create_file(path, key.to_text(AUTHORITY_KEY_PREFIX), keyfiles.SECRET_MODE)
    _create_membership(directory, membership)
    return membership


def save_membership(directory: str | Path, membership: Membership) -> None:
    """Writes what `redeem` or `enrol` made, into a directory that holds no member yet. Raises ConfigError."""
    directory = Path(directory)
    _check_unused(directory)
    keyfiles.make_directory(directory)
    _create_membership(directory, membership)


def load_membership(directory: str | Path) -> Membership:
    """The membership that a directory holds, everything checked. Raises ConfigError, which names the file and the way out."""
    directory = Path(directory)
    known, seeds = load_directory(directory)
    return _membership_of(directory, Identity.load(directory / MEMBER_KEY), known, seeds)


def prepare_next_key(directory: str | Path) -> Identity:
    """The key that is to take the place of this member's: made now, unless a rotation was begun before. Raises ConfigError."""
    path = Path(directory) / NEXT_KEY
    if not path.exists():
        Identity.generate().save(path)
    return Identity.load(path)


def adopt_next_key(directory: str | Path, statements: Iterable[bytes]) -> Membership | None:
    """Puts the next key into the place of the present one, if it was prepared and the authority has put it into force.

    `statements`: what is known, the rotation among it; they are kept in the directory. The former key is kept aside. None, and
    nothing changed, while it is not in force. Raises ConfigError.
    """
    directory = Path(directory)
    if not (directory / NEXT_KEY).exists():
        return None
    present, following = Identity.load(directory / MEMBER_KEY), Identity.load(directory / NEXT_KEY)
    known, seeds = load_directory(directory)
    known.restore(statements)
    replica = known.replica_of(present.public_key)
    if known.public_key(replica) != following.public_key:
        return None
    content = _statements_to_bytes(known.statements(), seeds)
    keyfiles.replace_file(directory / STATEMENTS, content, keyfiles.PUBLIC_MODE)
    former = directory / FORMER_KEY.format(present.public_key.hex()[:8])
    keyfiles.replace_file(former, present.to_text(MEMBER_KEY_PREFIX), keyfiles.SECRET_MODE)
    keyfiles.replace_file(directory / MEMBER_KEY, following.to_text(MEMBER_KEY_PREFIX), keyfiles.SECRET_MODE)
    keyfiles.remove_file(directory / NEXT_KEY)
    return _membership_of(directory, following, known, seeds)


def _membership_of(directory: Path, key: Identity, known: Directory, seeds: tuple[Address, ...]) -> Membership:
    identity = key.of_replica(known.replica_of(key.public_key))
    grant = known.grant_of(identity.replica_id, key.public_key)
    if grant is None:
        raise ConfigError(
            f"{directory / STATEMENTS} has no credential for the key in {directory / MEMBER_KEY}: they are of different agents"
        )
    credential, invite = known.raw(grant.statement), known.invite_of(grant)
    if credential is None:
        raise AssertionError("a grant whose statement is not in the set")
    former = sorted(directory.glob(FORMER_KEY.format("*")))
    return Membership(
        identity,
        grant.name,
        keyfiles.read_public(directory / CHARTER),
        credential,
        tuple(known.statements()),
        invite,
        seeds,
        tuple(Identity.load(path).of_replica(identity.replica_id) for path in former),
        _load_anchor(directory / ANCHOR),
    )


def replace_authority_key(directory: str | Path, statements: Iterable[bytes]) -> list[bytes]:
    """A new key for the authority of this directory; the former one is overwritten. Gives the statements that put it into force.

    `statements`: what the mesh knows. After a power cut in between, calling it again finishes it. Raises ConfigError.
    """
    directory = Path(directory)
    with keyfiles.locked(directory / AUTHORITY_LOCK):
        keys = authority_keys_of(directory)
        if len(keys) != 1:
            raise ConfigError("an authority of several keys is replaced by its recovery key only: `mesh keys recover`")
        key, following, known, seeds = _next_authority(directory, keys[0], statements)
        if not known.is_authority(following.public_key):
            if not known.is_authority(key.public_key):
                raise ConfigError(f"{directory / AUTHORITY_KEY} is not the key in force: it was replaced elsewhere")
            hand_over(known, key, following, known.seat.recovery)
        return _seat_authority(directory, following, known, seeds)


def recover_authority(
    directory: str | Path,
    recovery: str | Path,
    new_recovery: str | Path,
    statements: Iterable[bytes],
    *,
    until_serial: int | None = None,
) -> list[bytes]:
    """Makes this directory the authority's, with a new key, by the recovery key in a file: the authority's was lost or stolen.

    `new_recovery`: a file for the recovery key from then on; the used one is worth nothing. `until_serial`: of the last statement
    that the authority itself signed. Raises ConfigError.
    """
    directory, what = Path(directory), str(recovery)
    by = Identity.from_text(keyfiles.read_secret(Path(recovery)), RECOVERY_KEY_PREFIX, what)
    with keyfiles.locked(directory / AUTHORITY_LOCK):
        is_new = not (directory / AUTHORITY_NEXT).exists()
        try:
            _, following, known, seeds = _next_authority(directory, by, statements)
            if not known.is_authority(following.public_key):
                if known.seat.recovery != by.public_key:
                    raise ConfigError(f"{recovery} is not the recovery key of this mesh, or was used already")
                second = Identity.generate()
                hand_over(known, by, following, second.public_key, until_serial=until_serial)
                keyfiles.create_file(Path(new_recovery), second.to_text(RECOVERY_KEY_PREFIX), keyfiles.SECRET_MODE)
        except MeshError:
            if is_new:  # nothing rests on it yet
                keyfiles.remove_file(directory / AUTHORITY_NEXT)
            raise
        return _seat_authority(directory, following, known, seeds)


def _next_authority(
    directory: Path, key: Identity, statements: Iterable[bytes]
) -> tuple[Identity, Identity, Directory, tuple[Address, ...]]:
    """The key, the one to follow it, and all that is known."""
    known, seeds = load_directory(directory)
    known.restore(statements)
    path = directory / AUTHORITY_NEXT
    if not path.exists():
        keyfiles.create_file(path, Identity.generate().to_text(AUTHORITY_KEY_PREFIX), keyfiles.SECRET_MODE)
    return key, Identity.from_text(keyfiles.read_secret(path), AUTHORITY_KEY_PREFIX, str(path)), known, seeds


def _seat_authority(directory: Path, key: Identity, known: Directory, seeds: tuple[Address, ...]) -> list[bytes]:
    content = _statements_to_bytes(known.statements(), seeds)
    keyfiles.replace_file(directory / STATEMENTS, content, keyfiles.PUBLIC_MODE)
    keyfiles.replace_file(directory / AUTHORITY_KEY, key.to_text(AUTHORITY_KEY_PREFIX), keyfiles.SECRET_MODE)
    keyfiles.remove_file(directory / AUTHORITY_NEXT)
    return [*known.handovers(), *known.rolls()]


@contextlib.contextmanager
def open_authority(directory: str | Path) -> Iterator[Authority]:
    """The authority of a directory, to issue statements with; what it issued is written at the end, before anybody is told of it.
    What lacks signatures becomes a proposal (`mesh.trust.proposals`).

    Raises ConfigError, also while another program has it open. When the block raises, nothing is written.
    """
    directory = Path(directory)
    keys = authority_keys_of(directory)
    with keyfiles.locked(directory / AUTHORITY_LOCK):
        known, seeds = load_directory(directory)
        reserved = proposals.serial_max(directory)
        authority = Authority(keys, keyfiles.read_public(directory / CHARTER), known.statements(), reserved=reserved)
        before = authority.directory.digest
        yield authority
        if authority.directory.digest != before:
            save_statements(directory, authority.statements, seeds)
        if authority.proposed:
            proposals.create(directory, authority.charter, authority.proposed)


def import_proposal(directory: str | Path, proposal: Proposal, statements: Iterable[bytes]) -> list[str]:
    """Takes what a complete proposal says into the directory; the mesh is to be told then. Gives the tokens of invites that were
    proposed here. `statements`: what the mesh knows. Raises ConfigError."""
    directory, charter = Path(directory), charter_from_bytes(proposal.charter)
    lacking = max(missing(raw, charter) for raw in proposal.statements)
    if lacking:
        raise ConfigError(f"the proposal lacks {lacking} of {charter.threshold} signatures: `mesh keys sign` adds one")
    with keyfiles.locked(directory / AUTHORITY_LOCK):
        known, seeds = load_directory(directory)
        known.restore(statements)
        if refused := known.restore(proposal.statements):
            raise ConfigError(f"the proposal is not of this mesh, or its authority was replaced: {refused[0]}")
        save_statements(directory, known.statements(), seeds)
        return proposals.settle(directory, proposal.statements)


def load_authority(directory: str | Path) -> Authority:
    """The authority of a directory, to look at. Raises ConfigError."""
    directory = Path(directory)
    known, _ = load_directory(directory)
    return Authority(authority_keys_of(directory), keyfiles.read_public(directory / CHARTER), known.statements())


def list_key_files(directory: str | Path, now: Now) -> list[KeyInfo]:
    """What the files of a directory say about keys, for `mesh keys show` where no node runs. Raises ConfigError."""
    known, _ = load_directory(Path(directory))
    return known.keys(now)


def authority_keys_of(directory: Path) -> tuple[Identity, ...]:
    """The authority's key; of an authority of several those that are here, which may be none. Raises ConfigError."""
    path = directory / AUTHORITY_KEY
    if not path.exists() and (directory / MEMBER_KEY).exists():
        if charter_from_bytes(keyfiles.read_public(directory / CHARTER)).threshold > 1:
            return tuple(map(load_authority_key, sorted(directory.glob(AUTHORITY_SEVERAL.format("[0-9]")))))
        raise ConfigError(f"{path} is missing: this agent is a member, not the authority. Run the command where `mesh init` ran")
    return (load_authority_key(path),)


def load_authority_key(path: Path) -> Identity:
    """One key of the authority. Raises ConfigError, also when the file is open to others than its owner."""
    return Identity.from_text(keyfiles.read_secret(path), AUTHORITY_KEY_PREFIX, str(path))


def _check_unused(directory: Path) -> None:
    for name in (AUTHORITY_KEY, MEMBER_KEY, CHARTER, STATEMENTS):
        if (directory / name).exists():
            raise ConfigError(f"{directory} belongs to a mesh already ({name} is there): choose another directory")


def _create_membership(directory: Path, membership: Membership) -> None:
    keyfiles.create_file(directory / MEMBER_KEY, membership.identity.to_text(MEMBER_KEY_PREFIX), keyfiles.SECRET_MODE)
    keyfiles.create_file(directory / CHARTER, membership.charter, keyfiles.PUBLIC_MODE)
    content = _statements_to_bytes(membership.statements, membership.seeds)
    keyfiles.create_file(directory / STATEMENTS, content, keyfiles.PUBLIC_MODE)
    if membership.anchor is not None:
        keyfiles.create_file(directory / ANCHOR, cbor.encode(list(membership.anchor)), keyfiles.PUBLIC_MODE)


def _load_anchor(path: Path) -> Anchor | None:
    if not path.exists():
        return None
    try:
        return anchor_from_value_untrusted(cbor.decode_untrusted(keyfiles.read_public(path)))
    except Malformed as error:
        raise ConfigError(f"{path} is damaged: {error}") from None


def load_directory(directory: Path) -> tuple[Directory, tuple[Address, ...]]:
    """What is known, and the seeds of a token. Raises ConfigError."""
    path = directory / CHARTER
    try:
        known = Directory(keyfiles.read_public(path))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    path = directory / STATEMENTS
    statements, seeds = _statements_from_bytes(keyfiles.read_public(path), path)
    refused = known.restore(statements)
    if refused:
        raise ConfigError(f"{path}: {len(refused)} statements are damaged or of another mesh than {CHARTER}: {refused[0]}")
    return known, seeds


def save_statements(directory: Path, statements: Sequence[bytes], seeds: Sequence[Address]) -> None:
    """Replaces what is known. Raises ConfigError."""
    keyfiles.replace_file(directory / STATEMENTS, _statements_to_bytes(statements, seeds), keyfiles.PUBLIC_MODE)


def _statements_to_bytes(statements: Sequence[bytes], seeds: Sequence[Address]) -> bytes:
    return _STATEMENTS_HEAD + cbor.encode([list(statements), [list(seed) for seed in seeds]])


def _statements_from_bytes(content: bytes, path: Path) -> tuple[tuple[bytes, ...], tuple[Address, ...]]:
    if not content.startswith(_STATEMENTS_HEAD):
        raise ConfigError(f"{path} is not a file of statements, or one of another version of this program")
    try:
        fields: Any = cbor.decode_untrusted(content[len(_STATEMENTS_HEAD) :])
    except Malformed as error:
        raise ConfigError(f"{path} is damaged: {error}") from None
    match fields:
        case (tuple(statements), tuple(seeds)) if all(type(each) is bytes for each in statements):
            return statements, tuple(map(checked_address, seeds))
    raise ConfigError(f"{path} is damaged: it holds something else than statements and addresses")
