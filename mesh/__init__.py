"""gossipmesh: agents that share signed state with no server.

    async with mesh.open_node(mesh.NodeConfig(membership=membership, seeds=["192.0.2.7:7946"])) as node:
        node.register("robots/7/pose").set([1.0, 2.0])

    peer          the pure core: wire, trust, swim, sync and a crdt.Replica put together; no socket, clock or disk
    net, store    the real socket, clock and disk, and the loop that drives the core over them
    node, start   what a program uses; watch, values and control serve it
    blocking      the same for programs without trio
    testing       a mesh on virtual time

Names are loaded when they are first used, so that the `mesh` command does not pay for what it does not need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mesh import blocking as blocking
    from mesh.config import NodeConfig as NodeConfig
    from mesh.critical.handle import Critical as Critical
    from mesh.critical.handle import Receipt as Receipt
    from mesh.critical.handle import Thought as Thought
    from mesh.critical.handle import Wish as Wish
    from mesh.critical.judges import time_limit as time_limit
    from mesh.critical.lease import Lease as Lease
    from mesh.critical.view import Quorum as Quorum
    from mesh.errors import Backpressure as Backpressure
    from mesh.errors import ClockWrong as ClockWrong
    from mesh.errors import ConfigError as ConfigError
    from mesh.errors import InvalidPath as InvalidPath
    from mesh.errors import KeyMissing as KeyMissing
    from mesh.errors import LeaseLost as LeaseLost
    from mesh.errors import MeshError as MeshError
    from mesh.errors import NodeClosed as NodeClosed
    from mesh.errors import NotCommitted as NotCommitted
    from mesh.errors import NotEnoughRights as NotEnoughRights
    from mesh.errors import NotPermitted as NotPermitted
    from mesh.errors import OutcomeUnknown as OutcomeUnknown
    from mesh.errors import QuotaExceeded as QuotaExceeded
    from mesh.errors import StorageCorrupt as StorageCorrupt
    from mesh.errors import StorageError as StorageError
    from mesh.errors import StorageFull as StorageFull
    from mesh.errors import TypeConflict as TypeConflict
    from mesh.errors import UnsupportedValue as UnsupportedValue
    from mesh.errors import ValueTooLarge as ValueTooLarge
    from mesh.errors import WriteRefused as WriteRefused
    from mesh.events import CatchingUp as CatchingUp
    from mesh.events import CaughtUp as CaughtUp
    from mesh.events import Changed as Changed
    from mesh.events import CharterRaised as CharterRaised
    from mesh.events import Event as Event
    from mesh.events import IdentityInUse as IdentityInUse
    from mesh.events import InviteReused as InviteReused
    from mesh.events import KeyReplaced as KeyReplaced
    from mesh.events import Lagged as Lagged
    from mesh.events import LeaderDemoted as LeaderDemoted
    from mesh.events import LeaderElected as LeaderElected
    from mesh.events import LeaderRestored as LeaderRestored
    from mesh.events import MemberCut as MemberCut
    from mesh.events import MemberDown as MemberDown
    from mesh.events import MemberEvent as MemberEvent
    from mesh.events import MemberLeft as MemberLeft
    from mesh.events import MemberRevoked as MemberRevoked
    from mesh.events import MemberSuspected as MemberSuspected
    from mesh.events import MemberUp as MemberUp
    from mesh.events import MemberUpdated as MemberUpdated
    from mesh.events import NotAdmitted as NotAdmitted
    from mesh.events import PolicyChanged as PolicyChanged
    from mesh.events import ProposalRefused as ProposalRefused
    from mesh.events import QuorumFault as QuorumFault
    from mesh.events import QuorumLost as QuorumLost
    from mesh.events import QuorumRegained as QuorumRegained
    from mesh.events import RelayLied as RelayLied
    from mesh.events import SerialReused as SerialReused
    from mesh.events import ShelfClosed as ShelfClosed
    from mesh.events import ShelfFault as ShelfFault
    from mesh.events import ShelfForked as ShelfForked
    from mesh.events import StatementIgnored as StatementIgnored
    from mesh.events import StorageFailing as StorageFailing
    from mesh.events import StorageRecovered as StorageRecovered
    from mesh.events import Synced as Synced
    from mesh.listener import Listener as Listener
    from mesh.node import Node as Node
    from mesh.quorum.judging import Question as Question
    from mesh.start import open_node as open_node
    from mesh.swim.roster import Member as Member
    from mesh.trust import Authority as Authority
    from mesh.trust import Identity as Identity
    from mesh.trust import Membership as Membership
    from mesh.values import Entry as Entry
    from mesh.watch import Watch as Watch

_NAMES: Final = {
    "mesh.config": ("NodeConfig",),
    "mesh.critical.handle": (
        "Critical",
        "Receipt",
        "Thought",
        "Wish",
    ),
    "mesh.critical.judges": ("time_limit",),
    "mesh.critical.lease": ("Lease",),
    "mesh.critical.view": ("Quorum",),
    "mesh.errors": (
        "Backpressure",
        "QuotaExceeded",
        "ClockWrong",
        "ConfigError",
        "InvalidPath",
        "KeyMissing",
        "LeaseLost",
        "MeshError",
        "NodeClosed",
        "NotCommitted",
        "NotEnoughRights",
        "NotPermitted",
        "OutcomeUnknown",
        "StorageCorrupt",
        "StorageError",
        "StorageFull",
        "TypeConflict",
        "UnsupportedValue",
        "ValueTooLarge",
        "WriteRefused",
    ),
    "mesh.events": (
        "CatchingUp",
        "CaughtUp",
        "Changed",
        "CharterRaised",
        "Event",
        "IdentityInUse",
        "InviteReused",
        "KeyReplaced",
        "Lagged",
        "LeaderDemoted",
        "LeaderElected",
        "LeaderRestored",
        "MemberDown",
        "MemberEvent",
        "MemberLeft",
        "MemberRevoked",
        "MemberSuspected",
        "MemberUp",
        "MemberUpdated",
        "NotAdmitted",
        "PolicyChanged",
        "ProposalRefused",
        "QuorumFault",
        "QuorumLost",
        "QuorumRegained",
        "SerialReused",
        "ShelfFault",
        "ShelfForked",
        "ShelfClosed",
        "RelayLied",
        "MemberCut",
        "StatementIgnored",
        "StorageFailing",
        "StorageRecovered",
        "Synced",
    ),
    "mesh.listener": ("Listener",),
    "mesh.node": ("Node",),
    "mesh.quorum.judging": ("Question",),
    "mesh.start": ("open_node",),
    "mesh.swim.roster": ("Member",),
    "mesh.trust": (
        "Authority",
        "Identity",
        "Membership",
    ),
    "mesh.values": ("Entry",),
    "mesh.watch": ("Watch",),
}
_MODULE_OF: Final = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "blocking":
        return import_module("mesh.blocking")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'mesh' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF, "blocking"})
