"""All behaviours of three voters within a small bound are safe, and four planted bugs are found."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from consensus_escalation.quorum import reached_by_quorum
from tests.consensus.search import CONFIG, FixedLog, Rules, Search, Unsafe


def test_every_behaviour_of_two_terms_is_safe() -> None:
    search = Search(terms=2, length=2)
    assert search.run() > 1000


def test_a_lost_vote_is_found() -> None:
    """PySyncObj#202: whoever restarts without its vote votes twice. Random runs miss it."""
    with pytest.raises(Unsafe, match="two leaders"):
        Search(2, 1, Rules(forgets_vote=True)).run()


def test_a_late_signature_is_found() -> None:
    with pytest.raises(Unsafe, match="certified in 1"):
        Search(3, 1, Rules(sign_ack=lambda block_term, leader_term, my_term: True)).run()


def commit_by_counting(log: FixedLog, match: Mapping[bytes, float], _commit: int, _term_start: int) -> int:
    return int(reached_by_quorum(CONFIG, match))  # type: ignore[arg-type]


def test_a_commit_of_an_old_term_is_found() -> None:
    """Figure 8 of the paper, from where two terms have each left a block with their leader alone. From the very start it is the
    239,164th state: a minute.
    """
    search = Search(4, 1, Rules(commit=commit_by_counting))
    start = search.first(lambda state: state.led[1] == (1,) and state.led[2] == (2,) and not any(state.committed))
    with pytest.raises(Unsafe, match="committed in"):
        search.run(start)
