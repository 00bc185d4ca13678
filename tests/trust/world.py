"""Small meshes for the tests: keys from numbers, time from arguments."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from crdt.ids import ReplicaId, ShelfId, make_dot, shelf_id
from crdt.ops import VALUE, Op, Path, Rights
from mesh.effects import Now
from mesh.events import Event
from mesh.trust import Authority, Directory, Identity, Limits, Membership
from mesh.trust.contest import SETTLED_SECONDS
from mesh.trust.statements import Charter, Content, issue

START_WALL = 1_800_000_000
"""Seconds since 1970 at monotonic 0."""


def at(seconds: float) -> Now:
    return Now(seconds, int((START_WALL + seconds) * 1_000_000))


def entropy(label: object, length: int = 32) -> bytes:
    return hashlib.blake2b(repr(label).encode(), digest_size=length).digest()


def identity(label: object) -> Identity:
    return Identity.generate(entropy(label))


def authority(label: object = "mesh", critical: Sequence[str] = ()) -> Authority:
    return Authority.generate(critical=critical, entropy=entropy(label, 48))


def charter_of(authority: Authority, serial: int, critical: Sequence[str] = (), keys: Sequence[bytes] | None = None) -> bytes:
    """A charter of any serial, which the tool would not make."""
    authorities = (authority.identity.public_key,) if keys is None else tuple(keys)
    return signed(authority, Charter(serial, authority.mesh_id, authorities, tuple(critical), Limits()))


def signed(by: Authority, content: Content) -> bytes:
    """Any statement of the authority, also one that it would not make."""
    return issue(content, by.identity, by.mesh_id)


class Node:
    """A directory and what it told its user."""

    def __init__(self, membership: Membership) -> None:
        self.membership = membership
        self.events: list[Event] = []
        self.directory = Directory(membership.charter, identity=membership.identity, notify=self.events.append)
        assert self.directory.restore(membership.statements) == []

    @property
    def replica(self) -> ReplicaId:
        return self.membership.replica_id

    def admits(self, other: Membership, now: Now) -> bool:
        admitted = self.directory.admit(other.identity.public_key, other.presentation, now)
        assert admitted in (None, other.replica_id)
        return admitted is not None

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def add_all(directory: Directory, raws: Iterable[bytes], now: Now) -> None:
    for raw in raws:
        directory.add_untrusted(raw, now)


def exchange(nodes: Sequence[Node], now: Now) -> int:
    """Anti-entropy until nobody has news; the number of statements that moved."""
    moved = 0
    for _ in range(20):
        before = moved
        for receiver in nodes:
            for sender in nodes:
                theirs = set(sender.directory.ids())
                for identifier in sorted(theirs.difference(receiver.directory.ids())):
                    raw = sender.directory.raw(identifier)
                    assert raw is not None
                    moved += receiver.directory.add_untrusted(raw, now) is not None
        if moved == before:
            return moved
    raise AssertionError("the sets do not come to rest")


def shelf_of(member: Membership | Identity, birth: int = 1) -> ShelfId:
    return shelf_id(member.replica_id, birth)


def write(
    origin: ShelfId, path: Path, rights: Rights, *, seq: int = 1, index: int = 0, kind: int = VALUE, type_code: int = 1
) -> Op:
    return Op(kind, type_code, path, 1, (), origin, make_dot(seq, index), 1, rights)


NEW, OTHER, THIEF = identity("new"), identity("other"), identity("thief")
LATER = SETTLED_SECONDS + 1


def members(tool: Authority, count: int) -> list[Node]:
    nodes = [Node(tool.enrol(identity(("member", i)), name=f"m{i}")) for i in range(count)]
    exchange(nodes, at(0))
    return nodes


def token_of(tool: Authority, name: str | None = "guest", **arguments: object) -> str:
    return tool.invite(name, entropy=entropy(("invite", name)), **arguments)  # type: ignore[arg-type]
