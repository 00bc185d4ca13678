"""Make agents send more than they get, to somebody who did not ask."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from crdt.ids import shelf_id
from mesh.effects import Address, Now, Transmit
from mesh.sync.messages import Floor, Want
from mesh.testing import open_mesh
from mesh.wire import tables
from mesh.wire import transport as transport_module
from mesh.wire.frames import Frame, Lane
from mesh.wire.handshake import (
    CONNECT,
    COOKIE,
    INIT,
    INIT_BYTES,
    NO_RECEIPT,
    CookieJar,
    Init,
    encode_init,
    init_untrusted,
    mesh_tag,
)
from mesh.wire.transport import Received, Transport
from tests.attacks.stage import NOBODY, both, record, throw, without

THREAT = "amplification"


@both
def test_a_short_question_in_the_name_of_a_victim(defended: bool) -> None:
    """INITs with a spoofed sender: the answer must be no larger, or a botnet has a multiplier."""

    def unpadded(datagram: bytes, tag: bytes) -> Init | str:
        return init_untrusted(datagram.ljust(INIT_BYTES, b"\0"), tag)

    with open_mesh(2, seed=1) as mesh, without(defended, transport_module, "init_untrusted", unpadded):
        sent = record(mesh)
        datagram = encode_init(mesh_tag(mesh.authority.mesh_id), Init(b"n" * 16, b"k" * 32)).rstrip(b"\0")
        for _ in range(100):
            throw(mesh, 0, datagram)
        out = sum(len(each) for _, address, each in sent if address == NOBODY)
        assert (out > 100 * len(datagram)) == (not defended)


@both
def test_a_member_connects_in_the_name_of_a_victim(defended: bool) -> None:
    """Without a cookie that has to come back, a session could be opened from an address where nobody asked for it, and all that
    a member may ask for goes there.
    """
    with open_mesh(3, seed=2) as mesh, without(defended, CookieJar, "knows", lambda *_: True):
        liar = mesh.peer(2).transport
        mesh.run(20.0)
        connect = _connect_of(liar, mesh.hosts[0].address, mesh.memberships[0].identity.public_key, mesh.hosts[2].now())
        sent = record(mesh)
        throw(mesh, 0, connect)
        mesh.run(1.0)
        out = sum(len(each) for _, address, each in sent if address == NOBODY)
        assert (out > len(connect)) == (not defended)


def _connect_of(liar: Transport, target: Address, public_key: bytes, now: Now) -> bytes:
    """A CONNECT of the liar with a cookie of its own making."""
    liar.contact(target, now)
    (init,) = [each.datagram for each in liar.flush(now) if each.datagram[0] == INIT]
    liar.receive_untrusted(bytes((COOKIE,)) + init[10:26] + public_key + b"not a cookie, no" + NO_RECEIPT, target, now)
    (connect,) = [each.datagram for each in liar.flush(now) if each.datagram[0] == CONNECT]
    return connect


@both
def test_a_member_turns_what_it_asks_for_on_a_victim(defended: bool) -> None:
    """One small sealed datagram with a spoofed sender, and 64 repairs went to the victim: sessions followed every address that a
    newer datagram came from. Regression.
    """

    def believe(self: Transport, peer: tables.Peer, address: Address, now: Now) -> None:
        peer.sessions[0].session.address = address

    with open_mesh(3, seed=3) as mesh:
        for number in range(60):
            mesh.node(0).register(f"key/{number}").set("x" * 500)
            mesh.run(0.01)
        shelf = shelf_id(mesh.memberships[0].replica_id, mesh.peer(0).config.birth)
        liar = mesh.peer(2).transport
        liar.send(mesh.memberships[0].replica_id, Lane.FRESH, Frame.WANT, Want((Floor(shelf, 0, b""),)).encode())
        (want,) = liar.flush(mesh.hosts[2].now())
        sent = record(mesh)
        with without(defended, Transport, "_follow", believe):
            throw(mesh, 0, want.datagram)
        mesh.run(0.01)
        out = sum(len(each) for _, address, each in sent if address == NOBODY)
        assert (out > 20_000) == (not defended)
        assert out <= INIT_BYTES or not defended  # one question whether it lives there


@given(st.lists(st.tuples(st.sampled_from((1, 2, 3, 4, 5, 9)), st.binary(max_size=120), st.integers(0, 5)), max_size=40))
@settings(max_examples=80)
def test_no_datagrams_of_a_stranger_are_answered_by_more_bytes(recipe: list[tuple[int, bytes, int]]) -> None:
    """Before a cookie came back from there, an address gets at most what came from it: whatever it was, in whatever order."""
    victim = _victim()
    now = Now(victim.time, 0)
    victim.time += 0.01
    came: dict[Address, int] = {}
    answers: list[Transmit] = []
    for kind, content, place in recipe:
        address = ("198.51.100.1", 1 + place)
        datagram = bytes((kind,)) + content
        if kind == 2 and len(content) % 2:
            datagram = encode_init(victim.tag, Init(content[:16].ljust(16), content[16:48].ljust(32)))
        came[address] = came.get(address, 0) + len(datagram)
        got: list[Received] = victim.transport.receive_untrusted(datagram, address, now)
        assert not got
        answers += victim.transport.flush(now)
    for address in came:
        assert sum(len(each.datagram) for each in answers if each.address == address) <= came[address]


class _Victim:
    def __init__(self) -> None:
        with open_mesh(2, seed=4) as mesh:
            self.transport = mesh.peer(0).transport
            self.tag = mesh_tag(mesh.authority.mesh_id)
            self.transport.flush(mesh.hosts[0].now())
            self.time = mesh.hosts[0].now().monotonic


_VICTIMS: list[_Victim] = []


def _victim() -> _Victim:
    if not _VICTIMS:
        _VICTIMS.append(_Victim())
    return _VICTIMS[0]
