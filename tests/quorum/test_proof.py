"""What a ledger proves when the authority's key was replaced meanwhile."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from click.testing import CliRunner

from mesh.critical.proof import NotProven, Report, ledger_file, verify_untrusted
from mesh.testing import Mesh, open_mesh
from mesh.trust import Authority, Identity
from mesh.trust.handing_over import hand_over
from mesh.trust.identity import key_id
from mesh.trust.limits import Limits
from mesh.trust.statements import Charter, issue
from tests.quorum.helpers import has_voters, leader, put, wait
from tools.cli import cli

CRITICAL = ("tasks/**",)
NEXT, LATER = Identity(bytes(31) + b"n"), Identity(bytes(31) + b"l")


def ready(mesh: Mesh) -> None:
    assert mesh.run_until(lambda: has_voters(mesh, 3) and leader(mesh) is not None, 10.0)


def exported(mesh: Mesh, number: int) -> bytes:
    peer = mesh.peer(number)
    chain, genesis = peer.quorum.chain, peer.directory.genesis()
    assert chain is not None
    assert genesis is not None
    assert mesh.run_until(lambda: chain.proven == chain.applied, 5.0)
    return ledger_file(chain, genesis[0], mesh.memberships[number].charter, peer.directory.statements(), ())


def values(report: Report) -> list[object]:
    return [each.value for each in report.decisions if each.path.startswith("tasks/")]


def tell(mesh: Mesh, number: int, *statements: bytes) -> None:
    for raw in statements:
        mesh.peer(number).directory.add_untrusted(raw, mesh.hosts[number].now())
    mesh.hosts[number].wake()
    mesh.run(1.0)


@pytest.mark.parametrize("keys", [1, 3])
def test_a_ledger_is_proven_across_handovers_of_the_authority(keys: int) -> None:
    """Before, between and after: the genesis by the first key, voters by the first and by later ones."""
    recovery = Identity(bytes(31) + b"r")
    with pytest.MonkeyPatch.context() as patch, open_mesh_of(patch, recovery, keys) as mesh:
        ready(mesh)
        wait(mesh, 4, put(mesh, 4, "tasks/1", "before"))
        before = exported(mesh, 4)
        first = tuple(each.public_key for each in mesh.authority.identities)
        tell(mesh, 4, *hand_over(mesh.authority.directory, recovery, NEXT, LATER.public_key))
        wait(mesh, 4, put(mesh, 4, "tasks/2", "between"))
        following = Authority(NEXT, mesh.authority.charter, mesh.peer(4).directory.statements())
        tell(mesh, 4, following.reissue("node-3", voter=True, score=7), *following.hand_over(LATER_AUTHORITY))
        wait(mesh, 4, put(mesh, 4, "tasks/3", "after"))
        survivor = next(number for number in range(3) if number != leader(mesh))
        for number in range(3):
            if number != survivor:
                mesh.crash(number)
        after = exported(mesh, 4)
        report = verify_untrusted(after)
        assert values(report) == ["before", "between", "after"]
        assert (report.authorities, report.in_force) == (first, (LATER_AUTHORITY.public_key,))
        known = mesh.peer(4).directory.statements()
        assert values(verify_untrusted(after, known)) == ["before", "between", "after"]
        assert values(verify_untrusted(before, known)) == ["before"], "an old file, seen by who knows more"
        following.observe_untrusted(known)
        tell(mesh, 4, following.begin_quorum(mesh.memberships[survivor].identity.public_key))
        wait(mesh, 4, put(mesh, 4, "tasks/4", "new epoch"))
        renewed = verify_untrusted(exported(mesh, 4))
        assert renewed.epoch == 2
        assert values(renewed)[-1] == "new epoch"


LATER_AUTHORITY = Identity(bytes(31) + b"a")


def open_mesh_of(patch: pytest.MonkeyPatch, recovery: Identity, keys: int) -> AbstractContextManager[Mesh]:
    generate = Authority.generate

    def with_recovery(**options: object) -> Authority:
        return generate(recovery=recovery.public_key, **options)  # type: ignore[arg-type]

    patch.setattr(Authority, "generate", with_recovery)
    threshold = 1 if keys == 1 else 2
    return open_mesh(5, seed=3, voters=3, critical=CRITICAL, authority_keys=keys, threshold=threshold)


def test_a_thief_of_a_former_key_convinces_nobody_who_knows_of_the_handover() -> None:
    """It makes a mesh of its own under the same charter, and leaves the handover out of the file."""
    with open_mesh(1, seed=3, critical=CRITICAL) as honest:
        former, charter = honest.authority.identity, honest.authority.charter
        tell(honest, 0, *honest.authority.hand_over(NEXT))
        known = honest.peer(0).directory.statements()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Authority, "generate", lambda **_: Authority(former, charter))
        with open_mesh(4, seed=4, voters=3, critical=CRITICAL) as forged:
            ready(forged)
            wait(forged, 3, put(forged, 3, "tasks/1", "a lie"))
            file = exported(forged, 3)
    assert values(verify_untrusted(file)) == ["a lie"], "with the first key alone nobody could tell"
    with pytest.raises(NotProven, match="did not sign this genesis"):
        verify_untrusted(file, known)


def test_another_s_key_beside_ones_own_makes_no_charter_of_his(tmp_path: Path) -> None:
    """It was enough that one of the keys in the file was trusted: a forger signed with the other."""
    victim, forger = Identity(bytes(31) + b"v"), Identity(bytes(31) + b"f")
    charter = Charter(1, bytes(16), (victim.public_key, forger.public_key), CRITICAL, Limits())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Authority, "generate", lambda **_: Authority(forger, issue(charter, forger, bytes(16))))
        with open_mesh(1, voters=1, critical=CRITICAL) as forged:
            wait(forged, 0, put(forged, 0, "tasks/1", "a lie"))
            file = tmp_path / "ledger"
            file.write_bytes(exported(forged, 0))
    told = CliRunner().invoke(cli, ["verify", str(file), "--authority", victim.public_key.hex()])
    assert told.exit_code == 1
    assert "another authority" in told.stderr
    both = ["--authority", victim.public_key.hex(), "--authority", forger.public_key.hex()]
    assert CliRunner().invoke(cli, ["verify", str(file), *both]).exit_code == 0


def test_a_new_epoch_begins_with_a_voter_whose_key_was_replaced() -> None:
    """The genesis named the new key, whose id is nobody's: the quorum never began."""
    tool = Authority.generate(entropy=bytes(range(48)))
    voter, following = Identity(bytes(31) + b"1"), Identity(bytes(31) + b"2")
    tool.enrol(voter, name="a", voter=True)
    tool.rotate("a", following.public_key)
    tool.begin_quorum(following.public_key)
    genesis = tool.directory.genesis()
    assert genesis is not None
    assert key_id(genesis[1].public_key) == voter.replica_id
