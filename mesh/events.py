"""What a node tells its user, `async with node.events()`: frozen facts, one class each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from crdt.ids import Dot, ReplicaId, ShelfId
from mesh.effects import Address


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True, slots=True)
class Changed(Event):
    """A value as it is now, told to a watcher. Writes of one path that wait together are told once, by the newest
    value.
    """

    path: str
    """Of the register, set, map ... as a whole; an element of a set has no path of its own."""
    type: str
    """Name of the type: "register", "set", ..."""
    value: Any
    """What `.value` of a handle gives."""
    dot: Dot | None
    """The newest write that is shown there; None when nothing is: cleared, emptied, or its author is gone
    (while_alive).
    """


@dataclass(frozen=True, slots=True)
class Synced(Event):
    """All that was there when the telling began has been told; what follows is news."""


@dataclass(frozen=True, slots=True)
class Lagged(Event):
    """The reader was too slow: `n` changes are not told one by one. A watcher then gets the newest values and
    `Synced`.
    """

    n: int


Change: TypeAlias = Changed | Synced | Lagged
"""What a watcher is told."""


@dataclass(frozen=True, slots=True)
class CatchingUp(Event):
    """This replica is behind and fetches what it lacks; told a few times a second while it lasts."""

    shelves: int
    """Shelves that are behind."""
    bodies_wanted: int
    """Bodies still to come, of the shelves whose listing is here."""
    bodies_received: int
    """Bodies that came since the start."""


@dataclass(frozen=True, slots=True)
class CaughtUp(Event):
    """For the first time since the start this replica is in step with a peer, or has nobody to ask."""


@dataclass(frozen=True, slots=True)
class MemberEvent(Event):
    """Something about one other member."""

    replica: ReplicaId
    name: str


@dataclass(frozen=True, slots=True)
class MemberUp(MemberEvent):
    """Alive: new, back, or no longer under suspicion."""

    address: Address
    incarnation: int


@dataclass(frozen=True, slots=True)
class MemberUpdated(MemberEvent):
    """Alive as before, with another address, birth (a restart that nobody noticed), name or metadata."""

    address: Address
    incarnation: int


@dataclass(frozen=True, slots=True)
class MemberSuspected(MemberEvent):
    """It does not answer. It still counts as a member and can speak up."""

    accusers: tuple[ReplicaId, ...]


@dataclass(frozen=True, slots=True)
class MemberDown(MemberEvent):
    """Given up: accused by enough others and silent since. Empty accusers: this agent itself hears nobody any more."""

    accusers: tuple[ReplicaId, ...]


@dataclass(frozen=True, slots=True)
class MemberLeft(MemberEvent):
    """It said good-bye."""


@dataclass(frozen=True, slots=True)
class IdentityInUse(Event):
    """Another living agent uses this agent's identity. One of the two must enrol anew."""

    replica: ReplicaId
    address: Address
    """Where the other one says that it lives."""


@dataclass(frozen=True, slots=True)
class InviteReused(Event):
    """A second key used an invite. Innocent explanations first: a token pasted on two machines, a machine set up
    anew. Else it leaked.
    """

    invite: str
    """Name in the invite, or its key id in hex."""
    first: ReplicaId
    """The one that counts, as far as this node knows."""
    refused: ReplicaId
    """Gets no session, and what it wrote counts nowhere."""


@dataclass(frozen=True, slots=True)
class MemberRevoked(Event):
    """The authority took a member's rights away."""

    replica: ReplicaId
    name: str


@dataclass(frozen=True, slots=True)
class KeyReplaced(Event):
    """A member signs with another key from now on. When that is this agent and it was not told (`Node.rekey`): its next key
    was put into force by the authority, and it goes on with the former one until it is given the next.
    """

    replica: ReplicaId
    name: str
    public_key: bytes


@dataclass(frozen=True, slots=True)
class CharterRaised(Event):
    """A newer charter is in force: other critical prefixes, other limits."""

    serial: int


@dataclass(frozen=True, slots=True)
class SerialReused(Event):
    """Two statements of the authority bear one serial: its directory was copied, or restored from a backup. The older
    one's terms may win.

    Let the authority's tool learn the mesh's statements (`Authority.observe_untrusted`) before it makes new ones.
    """

    serial: int


@dataclass(frozen=True, slots=True)
class ShelfFault(Event):
    """Something is wrong with a shelf: its author lied or forked, or the bytes held of it are damaged. All other
    shelves go on.
    """

    shelf: ShelfId
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class ShelfForked(Event):
    """Two processes wrote one shelf, and here is the proof. Innocent explanations first: a virtual machine that was cloned or
    set back while it ran, a process image that was restored. Else its author tells two stories. What is known of it stays,
    nothing more of it is taken; an honest author goes on with a new shelf, and brings along what it finds of both. Everybody
    else goes on.
    """

    shelf: ShelfId
    name: str
    own: bool
    """It is this agent's."""


@dataclass(frozen=True, slots=True)
class ShelfClosed(Event):
    """This agent collected what the members hold of a shelf that had ended, and speaks for it from now on."""

    shelf: ShelfId
    name: str
    copies: int
    """States and loose deltas that were found."""
    silent: int
    """Members that did not answer in time: what only they hold is lost."""
    unfit: int
    """Writes that were too large to be issued again, and are lost."""


@dataclass(frozen=True, slots=True)
class RelayLied(Event):
    """What a member sent of another's shelf is not what its author signed. It is not asked for a while, others are. Innocent
    explanations first: its memory or its disk is damaged."""

    replica: ReplicaId
    name: str
    shelf: ShelfId


@dataclass(frozen=True, slots=True)
class MemberCut(Event):
    """The authority ended a member for good; or it forked so often that all of it is ended (then nobody takes over yet)."""

    replica: ReplicaId
    name: str
    host: str | None
    """Who takes over what is known of it."""


@dataclass(frozen=True, slots=True)
class StatementIgnored(Event):
    """A trust statement from an own file or disk could not be used at the start."""

    complaint: str


@dataclass(frozen=True, slots=True)
class StorageFailing(Event):
    """The disk refuses writes. The node goes on; what waits is kept in memory and written as soon as the disk takes
    it.
    """

    reason: str
    """Names the file and the way out."""


@dataclass(frozen=True, slots=True)
class StorageRecovered(Event):
    """The disk takes writes again, and all that waited is on it."""


@dataclass(frozen=True, slots=True)
class NotAdmitted(Event):
    """Somebody answers at a seed or member's address, but opens no session: this agent's credential is revoked or has
    run out, its invite was used by another, or a clock is wrong. Told at most once a minute.
    """

    address: Address


@dataclass(frozen=True, slots=True)
class LeaderElected(MemberEvent):
    """The quorum has another leader, as this voter hears it."""

    term: int


@dataclass(frozen=True, slots=True)
class QuorumLost(Event):
    """No majority of the voters is within reach: critical writes wait, everything else goes on."""


@dataclass(frozen=True, slots=True)
class QuorumRegained(Event):
    """Critical writes go on."""


@dataclass(frozen=True, slots=True)
class QuorumFault(Event):
    """A voter lied, or this replica's critical state is not the others'."""

    detail: str


@dataclass(frozen=True, slots=True)
class LeaderDemoted(MemberEvent):
    """It is proven guilty and comes last in elections, until a RESTORE that it did not author."""


@dataclass(frozen=True, slots=True)
class LeaderRestored(MemberEvent):
    """Its demotion is lifted."""

    by: str


@dataclass(frozen=True, slots=True)
class PolicyChanged(Event):
    """The rules by which critical writes are judged are others from this block on."""

    index: int
    by: str


@dataclass(frozen=True, slots=True)
class ProposalRefused(Event):
    """A voter's dissent: it refused to endorse this, and why. Whether it is written all the same, a majority decides."""

    path: str
    intent: str
    author: str
    voter: str
    rule: str
    """The rule, or the judge's reason."""
    term: int
