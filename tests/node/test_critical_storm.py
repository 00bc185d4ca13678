"""Real voters, killed with -9 and frozen, with the history checked; `python -m tests.node.critical_storm 600` for long."""

from __future__ import annotations

from tests.node.critical_storm import run


def test_what_voters_see_while_they_are_killed_and_frozen_is_linearizable() -> None:
    violations, counts = run(seconds=5.0, seed=4)
    assert not violations, "\n".join(map(str, violations))
    assert counts["kill -9"] > 0
    assert counts["get"] + counts["set"] + counts["compare_and_set"] > 30, f"a vacuous run: {counts}"
