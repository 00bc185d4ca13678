"""Hot paths cost no more than they did. Counts, not times: these fail for a reason, on any machine."""

from __future__ import annotations

import pytest

from tools.bench import counts, hot_paths
from tools.bench.counts import Counts, regressions

ADVICE = "mend it; or, where it is worth its price, renew the baseline: python -m tools.bench.counts --write"


@pytest.mark.parametrize("path", hot_paths.PATHS, ids=lambda path: str(path.__name__))
def test_a_hot_path_costs_no_more_than_it_did(path: counts.HotPath) -> None:
    worse = regressions(path.__name__, counts.count(path), counts.load())
    assert not worse, f"{worse}: {ADVICE}"


def test_the_same_work_counts_the_same() -> None:
    """But for what caches remember of the first time."""
    first, again = counts.count(hot_paths.apply_delta), counts.count(hot_paths.apply_delta)
    assert again.bytecodes == pytest.approx(first.bytecodes, rel=0.02)
    assert again.calls == pytest.approx(first.calls, rel=0.02)


def test_more_work_is_seen() -> None:
    kept = {counts.version(): {"path": {"bytecodes": 100.0, "calls": 10.0}}}
    assert regressions("path", Counts(109.0, 10.9), kept) == []
    (line,) = regressions("path", Counts(112.0, 10.0), kept)
    assert "112 bytecodes where 100 were enough" in line
    assert regressions("other", Counts(1e6, 1e6), kept) == []


def test_the_baseline_knows_every_hot_path() -> None:
    for version, kept in counts.load().items():
        assert set(kept) == {path.__name__ for path in hot_paths.PATHS}, version
