"""Critical writes in a virtual mesh, without the node's API."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from consensus_escalation.certificate import verify_certificate_untrusted
from consensus_escalation.chain import Chain
from consensus_escalation.command import Command, Verb, command_to_bytes
from consensus_escalation.machine import Outcome, Status
from consensus_escalation.sessions import Key
from crdt.ids import ReplicaId
from mesh.quorum.courier import NotTaken, Settled
from mesh.testing import Mesh
from mesh.wire import cbor


def put(mesh: Mesh, number: int, path: str, value: object) -> Key:
    """Ask for a critical write on this host; it is under way when virtual time goes on."""
    return ask(mesh, number, Command(Verb.SET, tuple(path.split("/")), cbor.encode(value)))


def ask(mesh: Mesh, number: int, command: Command) -> Key:
    quorum = mesh.peer(number).quorum
    assert quorum.chain is not None
    key = quorum.courier.want(quorum.chain, command_to_bytes(command, cbor.encode))
    mesh.hosts[number].wake()
    return key


def value(mesh: Mesh, number: int, path: str) -> object:
    """What this host shows there: certified, local."""
    chain = mesh.peer(number).quorum.chain
    cell = chain.machine.cell(tuple(path.split("/"))) if chain is not None else None
    return None if cell is None else cbor.decode_untrusted(cell.value)


_KEPT: WeakKeyDictionary[Mesh, dict[Key, Outcome | NotTaken]] = WeakKeyDictionary()


def answers(mesh: Mesh, number: int) -> dict[Key, Outcome | NotTaken]:
    """All so far, of all hosts that were asked."""
    found = _KEPT.setdefault(mesh, {})
    for each in mesh.peer(number).quorum.courier.take_answered():
        found[each.key] = each.outcome if isinstance(each, Settled) else each
    return found


def wait(mesh: Mesh, number: int, key: Key, limit: float = 5.0) -> Outcome:
    """The outcome of what was asked for."""
    assert mesh.run_until(lambda: key in answers(mesh, number), limit, every=0.001), "no outcome"
    outcome = answers(mesh, number)[key]
    assert isinstance(outcome, Outcome), outcome
    return outcome


def shown_with_proof(mesh: Mesh, path: str, wanted: object) -> bool:
    """Whether all running hosts show it, and could prove it to a stranger."""
    for number in mesh.running:
        chain = mesh.peer(number).quorum.chain
        if chain is None or value(mesh, number, path) != wanted or chain.proven < chain.applied:
            return False
    return True


def prove(mesh: Mesh, number: int, index: int) -> None:
    """This host's certificate for a block, checked under the voters before it."""
    chain = mesh.peer(number).quorum.chain
    assert chain is not None
    certificate = chain.proof(index)
    assert certificate is not None
    config = chain.log.config_before(index)[1]
    verify_certificate_untrusted(certificate, config, chain.genesis.epoch, chain.keys)


def leader(mesh: Mesh) -> int | None:
    """The host that leads, by its own word; of two the one of the later term."""
    found = []
    for number in mesh.running:
        status = mesh.peer(number).quorum.status
        if status is not None and status.leads:
            found.append((status.term, number))
    return max(found)[1] if found else None


def has_voters(mesh: Mesh, count: int) -> bool:
    """Whether so many vote, everybody knows, and no change is under way."""
    for number in mesh.running:
        chain = mesh.peer(number).quorum.chain
        if chain is None or len(chain.config.voters) != count or chain.config.is_joint or chain.proven < chain.applied:
            return False
    return True


def chain_of(mesh: Mesh, number: int) -> Chain:
    chain = mesh.peer(number).quorum.chain
    assert chain is not None
    return chain


def replica(mesh: Mesh, number: int) -> ReplicaId:
    return mesh.memberships[number].replica_id


DONE = Status.DONE
