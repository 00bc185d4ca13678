"""Every bug that is put in on purpose is found, by a checker that is there for it. See tests.sim.mutations."""

from __future__ import annotations

import pytest

from tests.sim.mutations import MUTATIONS, Mutation, play


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_bug_is_found(mutation: Mutation) -> None:
    outcome = play(mutation, broken=True)
    assert outcome.failed in mutation.found_by, outcome.failure


@pytest.mark.parametrize(
    "mutation", [each for each in MUTATIONS if each.hasty or each.options.rest], ids=lambda mutation: mutation.name
)
def test_the_same_run_passes_without_the_bug(mutation: Mutation) -> None:
    """Those whose runs no other test is like: housekeeping without patience, and to its rest."""
    outcome = play(mutation, broken=False)
    assert outcome.passed, outcome.failure
