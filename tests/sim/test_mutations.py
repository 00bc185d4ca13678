"""Every bug that is put in on purpose is found, by a checker that is there for it. See tests.sim.mutations."""

from __future__ import annotations

import pytest

from mesh.testing import Mesh
from tests import ledger
from tests.sim.mutations import MUTATIONS, Mutation, play
from tools.sim.checks import Inspector

BESIDE_CHECKERS = {"durability", "convergence", "simulation"}
"""What ends a run, too: a restart that lost what was stored, a calm in which not all became one, a core that spins."""


@pytest.mark.interpreted
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_bug_is_found(mutation: Mutation) -> None:
    outcome = play(mutation, broken=True)
    assert outcome.failed in mutation.found_by, outcome.failure
    ledger.FOUND[mutation.name] = outcome.failed


def test_every_checker_is_what_finds_some_bug() -> None:
    names = {checker.name for checker in Inspector(Mesh(2)).checkers} | BESIDE_CHECKERS
    alone = {mutation.found_by[0] for mutation in MUTATIONS if len(mutation.found_by) == 1}
    assert names == alone
    assert len(MUTATIONS) >= 20


@pytest.mark.interpreted
@pytest.mark.parametrize(
    "mutation", [each for each in MUTATIONS if each.hasty or each.options.rest], ids=lambda mutation: mutation.name
)
def test_the_same_run_passes_without_the_bug(mutation: Mutation) -> None:
    """Those whose runs no other test is like: housekeeping without patience, and to its rest."""
    outcome = play(mutation, broken=False)
    assert outcome.passed, outcome.failure
