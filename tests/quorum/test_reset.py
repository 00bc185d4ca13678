"""A majority of the voters is lost for ever: the authority begins a new epoch with what one of the others has."""

from __future__ import annotations

from mesh.testing import open_mesh
from mesh.trust.statements import statement_from_bytes_untrusted
from tests.quorum.helpers import DONE, has_voters, leader, put, value, wait

CRITICAL = ("tasks/**",)


def test_a_new_epoch_goes_on_with_what_its_voter_has() -> None:
    with open_mesh(6, voters=3, critical=CRITICAL) as mesh:
        assert mesh.run_until(lambda: has_voters(mesh, 3) and leader(mesh) is not None, 10.0)
        for number in range(40):
            wait(mesh, 5, put(mesh, 5, f"tasks/{number}", number))
        mesh.run(0.5)
        first = leader(mesh)
        assert first is not None
        survivor = next(number for number in range(3) if number != first)
        for number in range(3):
            if number != survivor:
                mesh.crash(number)
        waiting = put(mesh, 5, "tasks/1", "too late")
        mesh.run(2.0)
        mesh.authority.observe_untrusted(mesh.peer(5).directory.statements())
        statement = mesh.authority.begin_quorum(mesh.memberships[survivor].identity.public_key)
        assert statement_from_bytes_untrusted(statement).content.epoch == 2  # type: ignore[union-attr]
        mesh.peer(5).directory.add_untrusted(statement, mesh.hosts[5].now())
        mesh.hosts[5].wake()
        everywhere = [(n, number) for n in mesh.running for number in range(40)]
        assert mesh.run_until(lambda: all(value(mesh, n, f"tasks/{number}") == number for n, number in everywhere), 5.0)
        chain = mesh.peer(5).quorum.chain
        assert chain is not None
        assert chain.genesis.epoch == 2
        assert waiting.number
        outcome = wait(mesh, 5, put(mesh, 5, "tasks/2", "goes on"))
        assert outcome.status is DONE
        assert value(mesh, survivor, "tasks/2") == "goes on"
