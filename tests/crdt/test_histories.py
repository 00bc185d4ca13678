"""Random histories, held to the oracle; and each rule shown to be needed.

Long runs: `python -m tests.crdt.histories FIRST COUNT [-RULE] [option=value]`.
"""

from __future__ import annotations

import pytest

from tests.crdt.ended_real import CODE_RULES
from tests.crdt.histories import main, run
from tests.crdt.world import ALL_RULES, Options, Wrong

PLAIN = Options()
TIDY = Options(tidy=1)

PROFILES = {
    "plain": (range(100), PLAIN),
    "calm moments and restored backups": (range(1000, 1030), TIDY),
    "one path, long": (range(2000, 2025), Options(paths="p", steps=80)),
    "four replicas": (range(3000, 3020), Options(n=4, steps=60)),
    "no lost disks, no lies": (range(4000, 4030), Options(wipes=0, lies=0, poison=0)),
}


@pytest.mark.parametrize(("seeds", "options"), PROFILES.values(), ids=PROFILES.keys())
def test_histories(seeds: range, options: Options) -> None:
    total = sum((run(seed, ALL_RULES, options) for seed in seeds), start=run(seeds[0], ALL_RULES, options))
    for danger in ("drop", "retire", "jump_full", "jump_suffix"):
        assert total[danger] > len(seeds), f"the histories hardly exercise {danger}"


NEEDED = {  # seeds among which some show what the rule is for, found by longer runs
    "EXACT": (range(60), PLAIN),
    "INHERIT": (range(100), PLAIN),
    "RETIRE": (range(60), PLAIN),
    "FLOORGC": (range(10), PLAIN),
    "FULL": (range(120), PLAIN),
    "VERIFY": (range(415, 475), PLAIN),
    "SPEAK": (range(30), PLAIN),
    "LOOSE": (range(120), PLAIN),
    "FOLLOW": (range(100), TIDY),
}


@pytest.mark.parametrize("rule", NEEDED)
def test_each_rule_is_needed(rule: str) -> None:
    """Switched off, some history of a fixed range goes wrong."""
    seeds, options = NEEDED[rule]
    for seed in seeds:
        try:
            run(seed, ALL_RULES - {rule}, options)
        except Wrong:
            return
    pytest.fail(f"without {rule} no history of {seeds} went wrong")


def test_every_rule_is_accounted_for() -> None:
    """PRUNE is about size only: nothing shows differently without it. Those of ended shelves are in test_ended."""
    assert {*NEEDED, *CODE_RULES, "PRUNE"} == ALL_RULES
    for seed in range(20):
        run(seed, ALL_RULES - {"PRUNE"}, PLAIN)


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["0", "5", "steps=20"]) == 0
    assert "5 histories, 0 wrong" in capsys.readouterr().out
    assert main(["0", "10", "-FLOORGC"]) == 0, "wrong on purpose"
    assert "seed" in capsys.readouterr().out
    assert main(["0", "1", "-NONSENSE"]) == 2
