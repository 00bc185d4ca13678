"""Critical writes in the whole mesh under faults: a few seeds here, thousands by `mesh sim --critical 15 --seeds FIRST COUNT`."""

from __future__ import annotations

import pytest

from consensus_escalation import raft, replication
from consensus_escalation.log import Log
from consensus_escalation.sessions import Sessions
from mesh.quorum import keeper
from tools.sim.history import run
from tools.sim.options import Options
from tools.sim.units import TextError

SHORT = Options(nodes=5, seconds=5.0, rate=0.0, types=("register",), critical=25.0, voters=3)


def options(seed: int, *faults: str, **changes: object) -> Options:
    values = {name: getattr(SHORT, name) for name in ("nodes", "seconds", "rate", "types", "critical", "voters")}
    return Options(seed=seed, faults=faults, **{**values, **changes})


@pytest.mark.parametrize("faults", [("crash", "loss"), ("partition", "one-way", "pause"), ("power-cut", "reordering", "disk")])
def test_a_quorum_under_faults(faults: tuple[str, ...]) -> None:
    outcome = run(options(3, *faults))
    assert outcome.passed, f"{outcome.failure}; replay with: {outcome.options.command()}"
    for what in ("blocks", "states", "operations checked", "ledgers proven", "elections", "asked again", "answered again"):
        assert outcome.counts[f"critical {what}"] > 0, what


def test_faults_that_no_quorum_survives_are_refused() -> None:
    with pytest.raises(TextError, match="amnesia"):
        options(1, "amnesia").check()


@pytest.mark.interpreted
def test_a_minority_that_commits_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def eager(_log: Log, match: dict[bytes, float], commit: int, _term_start: int) -> int:
        return max(commit, int(max(match.values())))

    monkeypatch.setattr(replication, "may_commit", eager)
    outcome = run(options(5, script="1s cut 0 | 1-4 name=a\n4s mend a", rate=0.0))
    assert outcome.failed in ("critical", "exception"), "the first voter leads, alone on its side"


@pytest.mark.interpreted
def test_several_writes_that_are_done_twice_under_one_key_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that does not remember the names that users chose, under a leader that does not remember what it took."""
    monkeypatch.setattr(raft, "marks", lambda _entries: [])
    monkeypatch.setattr(Sessions, "_remember_name", lambda _self, _key, _past: None)
    outcome = run(options(3))
    assert outcome.failed == "critical"
    assert "is done by block" in outcome.failure


@pytest.mark.interpreted
def test_a_lease_that_is_never_ended_or_a_state_that_differs_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that depends on who runs it: the states are compared at every eighth block."""
    monkeypatch.setattr(keeper.Keeper, "applied", lambda self, chain, done, now: chain.machine._put_for_test(self._me))
    monkeypatch.setattr("consensus_escalation.machine.Machine._put_for_test", _spoil, raising=False)
    outcome = run(options(7))
    assert outcome.failed == "critical"
    assert "two states" in outcome.failure


def _spoil(machine: object, me: bytes) -> None:
    machine.epoch = me[0]  # type: ignore[attr-defined]
