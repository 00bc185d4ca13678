"""Send again what was said before: to the same process, after a restart of either side, at once or late."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from crdt.delta import Delta
from crdt.ids import ReplicaId
from crdt.replica import Replica
from mesh.effects import Now
from mesh.swim import beliefs
from mesh.swim.claims import Alive, Held, Verdict, precedence
from mesh.testing import Mesh, Setup, open_mesh
from mesh.wire import transport as transport_module
from mesh.wire.events import Received
from mesh.wire.frames import Frame
from mesh.wire.handshake import CONNECT, INIT, INIT_BYTES, CookieJar
from mesh.wire.session import DATA, Session
from mesh.wire.transport import Transport
from tests.attacks.stage import alive_at, both, record, say_at_once, shows, throw, without

THREAT = "replay"


def received(mesh: Mesh, number: int) -> int:
    """Datagrams of members that were opened and looked at."""
    return mesh.peer(number).transport.counters.sealed_received


@both
def test_datagrams_of_a_session(defended: bool) -> None:
    with open_mesh(3, seed=1) as mesh:
        sent = record(mesh)
        mesh.node(1).register("key").set(1)
        mesh.run(2.0)
        recorded = [
            each for source, address, each in sent if source == 1 and address == mesh.hosts[0].address and each[0] == DATA
        ]
        assert len(recorded) >= 5
        before = received(mesh, 0)
        with without(defended, Session, "is_replay", lambda *_: False):
            for datagram in recorded:
                throw(mesh, 0, datagram, mesh.hosts[1].address)
                throw(mesh, 0, datagram)  # and from another address
        assert received(mesh, 0) - before == (0 if defended else 2 * len(recorded))
        assert mesh.peer(0).transport.address_of(mesh.memberships[1].replica_id) == mesh.hosts[1].address


@pytest.mark.parametrize("who", [0, 1], ids=["receiver", "sender"])
def test_datagrams_of_a_session_before_a_restart(who: int) -> None:
    """Keys come of both sides' fresh bytes: what was sealed before a restart of either is garbage after it."""
    with open_mesh(3, seed=2) as mesh:
        sent = record(mesh)
        mesh.node(1).register("key").set("old")
        mesh.run(1.0)
        recorded = [each for source, address, each in sent if source == 1 and address == mesh.hosts[0].address]
        mesh.restart(who, "lost")
        mesh.run(5.0)
        mesh.node(1).register("key").set("new")
        mesh.run(1.0)
        before = received(mesh, 0)
        for datagram in recorded:
            throw(mesh, 0, datagram, mesh.hosts[1].address)
        assert received(mesh, 0) == before
        mesh.run(3.0)
        assert shows(mesh, 0, "key") == "new"
        assert alive_at(mesh, 0) == 2


@both
def test_the_handshake_of_a_session_that_was_closed(defended: bool) -> None:
    """Undefended, a cookie is good for ever and sessions that were opened are not remembered."""
    with open_mesh(2, seed=3, settle=0.0) as mesh:
        sent = record(mesh)
        mesh.run(3.0)
        connects = [(source, each) for source, _, each in sent if each[0] == CONNECT]
        assert connects
        source, connect = connects[0]
        target = 1 - source
        peer = mesh.memberships[source].replica_id
        if not defended:
            mesh.peer(target).transport._connected.clear()
        mesh.crash(source)
        mesh.peer(target).transport.close(peer)
        throw(mesh, target, connect, mesh.hosts[source].address)
        assert mesh.peer(target).transport.is_open(peer) == (not defended)


@both
def test_the_handshake_of_a_session_of_long_ago(defended: bool) -> None:
    """The table of opened sessions forgets after half a minute; by then the cookie must be stale."""
    known = CookieJar.knows

    def knows(self: CookieJar, cookie: bytes, address: Any, nonce: bytes, public_key: bytes, now: float) -> bool:
        return known(self, cookie, address, nonce, public_key, now) or bool(self._epoch)

    with open_mesh(2, seed=3, settle=0.0) as mesh, without(defended, CookieJar, "knows", knows):
        sent = record(mesh)
        mesh.run(3.0)
        source, connect = next((source, each) for source, _, each in sent if each[0] == CONNECT)
        target, peer = 1 - source, mesh.memberships[source].replica_id
        mesh.crash(source)
        mesh.run(60.0)
        transport: Transport = mesh.peer(target).transport
        transport.close(peer)
        transport._connected.clear()  # as after so many other sessions
        throw(mesh, target, connect, mesh.hosts[source].address)
        assert transport.is_open(peer) == (not defended)


@both
def test_an_old_claim_of_a_member(defended: bool) -> None:
    """A liar hands out the address that a member had before it moved."""

    def always_news(claim: Any, incarnation: int, held: Held) -> Verdict:
        return Verdict.NEWS if isinstance(claim, Alive) else precedence(claim, incarnation, held)

    with open_mesh(4, seed=4) as mesh:
        record_of = mesh.peer(0).swim._roster.records[mesh.memberships[1].replica_id]
        assert record_of.claim is not None
        old, before = record_of.claim.raw, mesh.hosts[1].address
        mesh.move(1, "10.7.7.7")
        mesh.run(10.0)
        assert mesh.peer(0).swim.address_of(mesh.memberships[1].replica_id) == mesh.hosts[1].address
        with without(defended, beliefs, "precedence", always_news):
            mesh.peer(0).swim._beliefs._seen.clear()
            mesh.peer(0).swim.handle_untrusted(mesh.memberships[3].replica_id, Frame.CLAIM, old, mesh.hosts[0].now())
        believed = mesh.peer(0).swim.address_of(mesh.memberships[1].replica_id)
        assert believed == (mesh.hosts[1].address if defended else before)


def first_question(mesh: Mesh, source: int) -> tuple[int, bytes]:
    """Everybody starts, and one writes: whom it asked first because of it, and the INIT."""
    sent = record(mesh)
    mesh.start()
    mesh.node(source).register("key").set("old")
    mesh.run(0.5)
    target, init = next((to, each) for who, to, each in sent if who == source and each[0] == INIT and len(each) > INIT_BYTES)
    return next(host.number for host in mesh.hosts if host.address == target), init


def forget_questions(mesh: Mesh, number: int, source: int) -> None:
    """As if there were a hoard of recordings, so that each counts."""
    peer = mesh.peer(number).transport._peers.by_id[mesh.memberships[source].replica_id]
    peer.early, peer.early_nonce = None, b""


@both
def test_first_questions_of_the_dead_keep_nobody_alive(defended: bool) -> None:
    """What goes along with a first question may have been said long ago. Undefended, it counts as heard from its sender."""
    mesh = Mesh(8, seed=6, setup=Setup(warm=True, introduced=True))
    target, init = first_question(mesh, 1)
    mesh.run(3.0)
    mesh.crash(1)
    received = partial(Received, fresh=True)
    with without(defended, transport_module, "Received", lambda *given, **_: received(*given)):
        for _ in range(60):
            forget_questions(mesh, target, 1)
            throw(mesh, target, init)
            mesh.run(0.1)
    assert mesh.peer(target).transport.counters.frames_received[Frame.DELTA] > 60
    state = next(member.state.value for member in mesh.node(target).members() if member.name == "node-1")
    assert (state == "dead") == defended


@both
def test_an_old_first_question_brings_nothing_back(defended: bool) -> None:
    """Undefended: floors are not looked at."""
    mesh = Mesh(8, seed=7, setup=Setup(warm=True, introduced=True))
    target, init = first_question(mesh, 0)
    mesh.node(0).register("key").clear()
    mesh.run(90.0)  # until the removal itself is gone
    forget_questions(mesh, target, 0)
    with (
        without(defended, Replica, "receive", lambda self, delta: self._keep_loose(delta, None)),
        without(defended, Replica, "has", lambda *_: False),
    ):
        throw(mesh, target, init)
    assert shows(mesh, target, "key") == (None if defended else "old")


@both
def test_an_old_delta_brings_nothing_back(defended: bool) -> None:
    """What was overwritten and let go is sent again, by a member that kept it. Undefended: floors are not looked at."""

    def keep(self: Replica, delta: Delta, mask: int | None = None) -> bool:
        return self._keep_loose(delta, mask)

    with open_mesh(3, seed=5) as mesh:
        kept: list[bytes] = []
        inner = mesh.peer(2).sync._handlers[Frame.DELTA]

        def hoard(peer: ReplicaId, raw: bytes, now: Now) -> None:
            kept.append(raw)
            inner(peer, raw, now)

        mesh.peer(2).sync._handlers[Frame.DELTA] = hoard
        mesh.node(0).register("key").set("old")
        mesh.run(0.1)
        mesh.node(0).register("key").clear()
        mesh.run(90.0)  # until the removal itself is gone
        assert len(kept) == 2
        with without(defended, Replica, "receive", keep), without(defended, Replica, "has", lambda *_: False):
            say_at_once(mesh, 2, 1, Frame.DELTA, kept[0])
        assert shows(mesh, 1, "key") == (None if defended else "old")
