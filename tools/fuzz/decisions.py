"""A decision ledger to start from: what a quorum of one decided, with its proof."""

from __future__ import annotations

from functools import lru_cache

from consensus_escalation.command import Command, Verb, command_to_bytes
from mesh.critical.proof import ledger_file
from mesh.testing import Mesh, Setup
from mesh.wire import cbor


@lru_cache(maxsize=1)
def decision_ledgers() -> list[bytes]:
    mesh = Mesh(1, seed=1, setup=Setup(voters=1))
    mesh.start()
    mesh.run(1.0)
    quorum = mesh.peer(0).quorum
    for number in range(3):
        if quorum.chain is None:
            raise RuntimeError("a voter that is alone did not begin its quorum")
        command = Command(Verb.SET, ("tasks", str(number)), cbor.encode(number))
        quorum.courier.want(quorum.chain, command_to_bytes(command, cbor.encode))
        mesh.hosts[0].wake()
        mesh.run(0.2)
    chain, genesis = quorum.chain, mesh.peer(0).directory.genesis()
    if chain is None or genesis is None:
        raise RuntimeError("no quorum")
    statements = mesh.peer(0).directory.statements()
    return [ledger_file(chain, genesis[0], mesh.authority.charter, statements, (), only=only) for only in (None, chain.proven)]
