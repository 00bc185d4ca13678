"""Valid bytes to start from: everything that a small mesh says while it forms, writes, loses datagrams, restarts and shrinks."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from crdt.delta import Delta
from crdt.ids import replica_of
from mesh.allowance import Allowance
from mesh.peer import Peer
from mesh.sync.messages import REPAIRS_PER_WANT, BodyNote, ListingPage
from mesh.testing import Boot, Link, Mesh, Setup, VirtualNode, stream
from mesh.trust import Identity
from mesh.trust.membership import present
from mesh.trust.statements import Witness, fork_statement, issue, statement_id
from mesh.trust.token import read_token, redeem
from mesh.wire import cbor
from mesh.wire.delta import delta_from_bytes_untrusted, head_from_parts_untrusted, sign_header
from mesh.wire.frames import Frame
from tools.fuzz.grammar import Grammar

PER_KIND_MAX: Final = 64
"""Examples kept of each kind of frame: enough to splice, few enough to choose well."""
SEED: Final = 1
"""Of the mesh that is listened to. A constant, so that an input depends on the fuzzer's seed alone. Other meshes of this seed
have the same members and the same authority, so that what was said here means something there."""

UNLIMITED: Final = 1e15
"""Microseconds of work."""

Tap = Callable[[int, Frame, bytes], bytes]
"""(host, kind, payload) -> payload: what an agent wants to send, before it is sealed."""


class TappedMesh(Mesh):
    """A mesh whose agents' frames pass by here before they are sealed."""

    tap: Tap | None = None

    def _start_peer(self, boot: Boot) -> Peer:
        core = super()._start_peer(boot)
        core.intake.allowance = Allowance(UNLIMITED, UNLIMITED)  # what is over it would be dropped unread
        host = boot.host
        core.transport.tap = lambda _peer, _lane, kind, payload: payload if self.tap is None else self.tap(host, kind, payload)
        return core


def listen(mesh: Mesh, hear: Callable[[bytes], None]) -> None:
    """Tell `hear` of every datagram that is sent from now on."""
    mesh.world.tap = lambda _source, _address, datagram: hear(datagram)


class Material:
    """`frames` by kind, `datagrams` as they went, and the signed things in them."""

    def __init__(self) -> None:
        self.frames: dict[Frame, list[bytes]] = {kind: [] for kind in Frame}
        self.datagrams: list[bytes] = []
        mesh = TappedMesh(4, seed=SEED, setup=Setup(link=Link(loss=0.05)))
        self.mesh_id = mesh.authority.mesh_id
        self.replicas = [membership.replica_id for membership in mesh.memberships]
        mesh.tap = self._keep_frame
        listen(mesh, self._keep_datagram)
        self._live(mesh)
        mesh.tap = None
        self.shelves = sorted({shelf for number in mesh.running for shelf in mesh.peer(number).replica.shelves()})
        raws = [*self.frames[Frame.DELTA], *self.frames[Frame.REPAIR]]
        self.deltas: list[Delta] = [delta_from_bytes_untrusted(raw) for raw in raws]
        self.headers = [delta.header_bytes for delta in self.deltas]
        self.headers += [ListingPage.decode_untrusted(raw).header for raw in self.frames[Frame.LISTING]]
        self.bodies = [delta.body for delta in self.deltas]
        self.bodies += [BodyNote.decode_untrusted(raw).raw for raw in self.frames[Frame.BODY]]
        self._trust(mesh)

    def grammar(self, rng: random.Random, shelves: Sequence[bytes] = ()) -> Grammar:
        """`shelves`: more of them to speak of."""
        return Grammar(rng, [*self.shelves, *shelves], self.replicas, self.statement_ids)

    def _keep_frame(self, _host: int, kind: Frame, payload: bytes) -> bytes:
        kept = self.frames[kind]
        if len(kept) < PER_KIND_MAX and payload not in kept:
            kept.append(payload)
        return payload

    def _keep_datagram(self, datagram: bytes) -> None:
        if len(self.datagrams) < 4 * PER_KIND_MAX:
            self.datagrams.append(datagram)

    def _live(self, mesh: Mesh) -> None:
        """A life short enough to be listened to at every start, in which every kind of frame is said."""
        mesh.start((0, 1, 2))
        mesh.run(1.5)
        for number in range(3):
            write_all_types(mesh.node(number), number)
            mesh.run(0.1)
        mesh.node(0).register("large").set("x" * 5_000)
        mesh.pause(2, 1.5)  # somebody asks others for it
        mesh.run(1.0)
        mesh.restart(1)
        mesh.cut((2,), name="away")
        for number in range(REPAIRS_PER_WANT + 20):  # more than is repaired: who comes later is sent lists, and asks for bodies
            mesh.node(0).register(f"many/{number % 20}").set(number)
            mesh.run(0.01)
        mesh.heal()
        mesh.start((3,))
        mesh.run(2.0)
        mesh.leave(2)
        mesh.run(1.5)

    def _trust(self, mesh: Mesh) -> None:
        authority, keys = mesh.authority, stream(SEED, "more keys")
        newcomer, contender = Identity(keys.randbytes(32)), Identity(keys.randbytes(32))
        self.tokens = [
            authority.invite("guest", may_write=["guest/**"], entropy=keys.randbytes(32)),
            authority.invite(addresses=[("10.0.0.1", 4000)], entropy=keys.randbytes(32)),
        ]
        members = [redeem(self.tokens[0], newcomer), redeem(self.tokens[1], contender, name="late")]
        invite = read_token(self.tokens[0]).invite_identity
        witness = issue(Witness(invite.replica_id, newcomer.public_key), mesh.memberships[0].identity, self.mesh_id)
        for subject in ("node-3", "guest"):
            authority.revoke(subject, honoured=[(7, 9)])
        authority.amend(critical=["consensus/**"])
        authority.cut("node-3", host="node-0")
        self.authority = authority
        self.forks = [self._fork(mesh.memberships[0].identity)]
        self.statements = [*authority.statements, *(member.credential for member in members), witness]
        self.statement_ids = [statement_id(raw) for raw in self.statements]
        self.presentations = [mesh.memberships[0].presentation, *(member.presentation for member in members)]
        self.presentations.append(present(self.statements[:4]))

    def _fork(self, author: Identity) -> bytes:
        """A second header beside one that this author signed."""
        first = next(delta for delta in self.deltas if replica_of(delta.shelf) == author.replica_id)
        fields = list(cbor.decode_untrusted(first.header_bytes))
        other = cbor.encode([*fields[:-1], bytes(16)])
        signature = sign_header(author.sign, other, self.mesh_id)
        heads = [(first.header_bytes, first.signature), (other, signature)]
        return fork_statement(*(head_from_parts_untrusted(first.shelf, header, signed) for header, signed in heads))

    def claims(self) -> list[bytes]:
        return self.frames[Frame.CLAIM]


@lru_cache(maxsize=1)
def material() -> Material:
    return Material()


def write_all_types(node: VirtualNode, number: int) -> None:
    """One or two writes of every type."""
    node.register("pose").set([1.0, 2.0, {"by": number}])
    node.multi_value("said").set(f"hello {number}")
    node.counter("visits").add(number + 1)
    node.maximum("top").update(number)
    node.set("seen").add(("crate", number))
    node.set("seen").add("x" * 300)
    node.set("open", remove_wins=True).add("door")
    node.flag("ready").enable()
    node.list("plan").append(f"step {number}")
    node.list("plan").insert(0, "first")
    node.log("log").append({"n": number})
    node.map("config")["speed"] = number
    node.bounded_counter("battery").add(5 + number)
    node.register("here", while_alive=True).set("yes")
    node.register("pose").clear()
