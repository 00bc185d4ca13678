"""Who leads a quorum, and what changes of it cost: whole agents on virtual time, where a busy machine blurs nothing.

And the CPU time of checking a certificate, with real signatures.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any, Final

from consensus_escalation.block import Entry, Header, Kind, cut
from consensus_escalation.certificate import Ack, Certificate, ack_bytes, verify_certificate_untrusted
from consensus_escalation.command import Command, Thought, Verb, command_to_bytes
from consensus_escalation.quorum import Config
from consensus_escalation.types import Keys, Purpose
from crdt.ids import ReplicaId
from mesh.presets import LAN
from mesh.quorum.signing import PURPOSES, hash_16
from mesh.testing import Link, Mesh, Setup
from mesh.trust import Identity
from mesh.wire.cbor import decode_untrusted, encode
from mesh.wire.cose import to_be_signed
from mesh.wire.crypto import LIBSODIUM
from tools.figures import quantile
from tools.fleet import AgentFailed
from tools.measure.critical import FIVE, SETTLE_SECONDS, WAIT_SECONDS, WATCHED, is_settled, leader_of

SCORES: Final = (9, 7, 5, 3, 1)
WRITE_EVERY_SECONDS: Final = 0.01


def open_five(seed: int, agents: int = 6, reign_seconds: float | None = None) -> Mesh:
    """Settled: five vote, and somebody leads. `reign_seconds`: instead of the preset's."""
    preset = LAN if reign_seconds is None else replace(LAN, quorum=replace(LAN.quorum, reign_seconds=reign_seconds))
    mesh = Mesh(agents, seed=seed, setup=Setup(voters=FIVE, scores=SCORES, critical=("bench/**",), preset=preset))
    mesh.start()
    if not mesh.run_until(partial(is_settled, mesh), SETTLE_SECONDS):
        raise AgentFailed(f"no quorum of {FIVE} within {SETTLE_SECONDS:.0f} virtual seconds (seed {seed})")
    return mesh


def ask(mesh: Mesh, number: int, command: Command) -> None:
    quorum = mesh.peer(number).quorum
    if quorum.chain is not None:
        quorum.courier.want(quorum.chain, command_to_bytes(command, encode))
        mesh.hosts[number].wake()


def deposed(rounds: int) -> dict[str, Any]:
    """A leader wants a valve opened, no voter has a judge who says yes: until another one leads; and whether the first ever leads
    again while others can."""
    delays, again = [], 0
    for seed in range(rounds):
        mesh = open_five(seed)
        guilty = leader_of(mesh)
        begun = mesh.now
        thought = Thought("valve.open", is_dangerous=True)
        ask(mesh, guilty, Command(Verb.SET, ("bench", "valve"), encode("open"), thought=thought))
        if not mesh.run_until(partial(_is_led_by_another, mesh, guilty), WAIT_SECONDS, every=0.001):
            raise AgentFailed(f"nobody followed the deposed leader (seed {seed})")
        delays.append((mesh.now - begun) * 1000)
        mesh.run(0.5)
        mesh.crash(leader_of(mesh))
        mesh.run(1.5)
        again += leader_of(mesh) == guilty
    p50, p99 = quantile(delays, 0.5), quantile(delays, 0.99)
    return {"rounds": rounds, "p50_ms": round(p50), "p99_ms": round(p99), "the deposed leads again": again}


def _is_led_by(mesh: Mesh, number: int) -> bool:
    return leader_of(mesh) == number


def _is_led_by_another(mesh: Mesh, number: int) -> bool:
    return leader_of(mesh) not in (-1, number)


def handback(rounds: int) -> dict[str, Any]:
    """The best voter returns and gets the lead back: the longest pause between two writes that somebody else sees."""
    gaps = []
    for seed in range(rounds):
        mesh = open_five(seed, reign_seconds=5.0)
        mesh.run_until(partial(_is_led_by, mesh, 0), 60.0)
        mesh.crash(0)
        mesh.run(3.0)
        mesh.restart(0)
        gaps.append(_longest_gap(mesh, seed))
    return {"rounds": rounds, "p50_ms": round(quantile(gaps, 0.5)), "p99_ms": round(quantile(gaps, 0.99))}


def _longest_gap(mesh: Mesh, seed: int) -> float:
    """Milliseconds, while a write is made every 10 ms until the best voter has led for a second."""
    watcher, end = len(mesh.hosts) - 1, mesh.now + 60.0
    last, longest, seen, led_since, value = mesh.now, 0.0, -1, 0.0, 0
    while mesh.now < end and not (led_since and mesh.now - led_since > 1.0):
        ask(mesh, watcher, Command(Verb.SET, ("bench", "gap"), encode(value)))
        value += 1
        mesh.run(WRITE_EVERY_SECONDS)
        chain = mesh.peer(watcher).quorum.chain
        cell = chain.machine.cell(("bench", "gap")) if chain is not None else None
        if cell is not None and cell.index != seen:
            if seen >= 0:
                longest = max(longest, mesh.now - last)
            last, seen = mesh.now, cell.index
        if leader_of(mesh) == 0:
            led_since = led_since or mesh.now
    if not led_since:
        raise AgentFailed(f"the best voter never got the lead back (seed {seed})")
    return longest * 1000


def oscillating(minutes: float) -> dict[str, Any]:
    """Two voters change places as the best every five seconds, by the authority's own hand: how often the lead changes."""
    mesh = open_five(1)
    changes, led, end, turn = 0, leader_of(mesh), mesh.now + minutes * 60, 0
    while mesh.now < end:
        mesh.authority.observe_untrusted(mesh.peer(5).directory.statements())
        for number, score in ((0, 1 if turn % 2 else 9), (1, 9 if turn % 2 else 1)):
            statement = mesh.authority.reissue(mesh.memberships[number].replica_id, score=score)
            mesh.peer(5).directory.add_untrusted(statement, mesh.hosts[5].now())
        mesh.hosts[5].wake()
        mesh.run(5.0)
        turn += 1
        now_led = leader_of(mesh)
        changes, led = changes + (now_led not in (-1, led)), now_led if now_led >= 0 else led
    return {"minutes": minutes, "score changes": turn, "leader changes": changes, "per minute": round(changes / minutes, 2)}


def everywhere(rounds: int, agents: int = 32) -> dict[str, Any]:
    """A write of an agent that does not vote, on links of 1 to 3 ms that lose every fiftieth datagram, until all agents show it
    and could prove it to a stranger."""
    mesh = Mesh(agents, seed=1, setup=Setup(voters=FIVE, scores=SCORES, critical=("bench/**",), link=Link(loss=0.02)))
    mesh.start()
    if not mesh.run_until(partial(is_settled, mesh), SETTLE_SECONDS):
        raise AgentFailed(f"no quorum of {FIVE} within {SETTLE_SECONDS:.0f} virtual seconds")
    mesh.run(1.0)
    delays = []
    for number in range(rounds):
        begun = mesh.now
        ask(mesh, agents - 1 - number % (agents - FIVE), Command(Verb.SET, WATCHED, encode(number)))
        if not mesh.run_until(partial(_is_proven, mesh, encode(number)), WAIT_SECONDS, every=0.001):
            raise AgentFailed(f"write {number} is not everywhere within {WAIT_SECONDS:.0f} virtual seconds")
        delays.append((mesh.now - begun) * 1000)
        mesh.run(0.1)
    return {
        "agents": agents,
        "rounds": rounds,
        "p50_ms": round(quantile(delays, 0.5)),
        "p99_ms": round(quantile(delays, 0.99)),
        "max_ms": round(max(delays)),
    }


def _is_proven(mesh: Mesh, value: bytes) -> bool:
    for number in mesh.running:
        chain = mesh.peer(number).quorum.chain
        cell = chain.machine.cell(WATCHED) if chain is not None else None
        if chain is None or cell is None or cell.value != value or chain.proven < cell.index:
            return False
    return True


def verification(rounds: int) -> dict[str, Any]:
    """CPU time of checking a certificate with three real signatures."""
    mesh_id, people = bytes(16), [Identity.generate() for _ in range(5)]
    public = {identity.replica_id: identity.public_key for identity in people}

    def verify(who: ReplicaId, purpose: Purpose, raw: bytes, signature: bytes) -> bool:
        return LIBSODIUM.verify(public[who], to_be_signed(raw, PURPOSES[purpose], mesh_id), signature)

    def sign(identity: Identity, purpose: Purpose, raw: bytes) -> bytes:
        return identity.sign(to_be_signed(raw, PURPOSES[purpose], mesh_id))

    keys = Keys(hash_16, partial(sign, people[0]), verify, encode, decode_untrusted)
    config = Config(tuple(sorted(public)))
    header = Header(1, 1, 1, bytes(16), bytes(16), 0, 0, 0, bytes(16), people[0].replica_id)
    block = cut(header, 1, (Entry(Kind.NOOP),), keys)
    acks = sorted(Ack(each.replica_id, 1, sign(each, Purpose.ACK, ack_bytes(1, block.hash))) for each in people[:3])
    certificate = Certificate((block.header_bytes,), tuple(acks))
    verify_certificate_untrusted(certificate, config, 1, keys)
    begun = time.process_time()
    for _ in range(rounds):
        verify_certificate_untrusted(certificate, config, 1, keys)
    return {"rounds": rounds, "cpu_ms": round((time.process_time() - begun) / rounds * 1000, 3)}
