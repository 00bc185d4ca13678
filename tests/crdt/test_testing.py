"""The harness must catch wrong views, and say how. A harness that nothing fails is no harness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st

from crdt.ids import ShelfId
from crdt.ops import Op
from crdt.testing import OPTIONS, Call, History, Network, check_view
from crdt.types import CoverPolicy, Custom, custom_type
from crdt.types.cells import newest

FEW = settings(OPTIONS, max_examples=40)
MANY = settings(OPTIONS, max_examples=1000, phases=[Phase.generate])
"""Until the first that fails, which is enough: making it small takes a minute."""

CALLS: st.SearchStrategy[Call] = st.tuples(st.just("set"), st.text("abc", max_size=3)) | st.tuples(st.just("clear"))


def length_of(payload: Any) -> tuple[int, str]:
    return len(str(payload)), str(payload)


def longest(shown: Sequence[Op]) -> str:
    return max((str(op.payload) for op in shown), key=length_of, default="")


def expected_longest(history: History) -> str:
    return max((one.arguments[0] for one in history.unseen("set", by=("set", "clear"))), key=length_of, default="")


def test_a_right_view_passes() -> None:
    check_view(custom_type(longest), CALLS, expected_longest, options=FEW)


class TestWrongViews:
    """Each is the kind of mistake that a user makes."""

    def refuse(self, view: Any, message: str = "", *, calls: st.SearchStrategy[Call] = CALLS, **options: Any) -> None:
        with pytest.raises(AssertionError, match=message):
            check_view(
                custom_type(view), calls, options.pop("specification", expected_longest), options=MANY, chores=False, **options
            )

    def test_the_first_that_arrived(self) -> None:
        """Remembers what it was called with: what arrived first wins, and replicas disagree for ever."""
        first: dict[tuple[ShelfId, int], int] = {}

        def arrived_first(shown: Sequence[Op]) -> Any:
            for op in shown:
                first.setdefault((op.origin, op.dot), len(first))
            return min(shown, key=lambda op: first[op.origin, op.dot]).payload if shown else ""

        self.refuse(arrived_first, "shows|show")

    def test_the_order_of_the_cells(self) -> None:
        def last_cell(shown: Sequence[Op]) -> Any:
            return shown[-1].payload if shown else ""

        def by_highest_origin(history: History) -> Any:
            kept = history.unseen("set")
            return max(kept, key=lambda one: one.shelf).arguments[0] if kept else ""

        self.refuse(last_cell, "depends on their order", specification=by_highest_origin)

    def test_a_tie_of_clocks_that_the_order_decides(self) -> None:
        """Nearly a register: only equal times show the difference."""

        def latest(shown: Sequence[Op]) -> Any:
            return max(shown, key=lambda op: op.time).payload if shown else ""

        def expected(history: History) -> Any:
            kept = history.unseen("set")
            return max(kept, key=lambda one: (one.time, one.shelf)).arguments[0] if kept else ""

        self.refuse(latest, "shows|depends", specification=expected)

    def test_clocks_instead_of_what_was_seen(self) -> None:
        """Specified by wall clock alone, as "last writer wins" is often built: the view is right, the specification is not."""

        def latest(shown: Sequence[Op]) -> Any:
            return newest(shown).payload if shown else ""

        def by_clock_alone(history: History) -> Any:
            writes = [one for one in history if one.method == "set"]
            return max(writes, key=lambda one: (one.time, one.shelf)).arguments[0] if writes else ""

        self.refuse(latest, "specified is", specification=by_clock_alone)

    def test_a_running_total_that_covers_others(self) -> None:
        """A counter with the cover policy of a register loses concurrent additions once somebody writes after them."""

        class Total(Custom[int]):
            def add(self, amount: int) -> None:
                own = self.own
                self.set(own + amount if isinstance(own, int) else amount)

        def total(shown: Sequence[Op]) -> int:
            return sum(op.payload for op in shown if isinstance(op.payload, int))

        def expected(history: History) -> int:
            return sum(one.arguments[0] for one in history)

        def check(covers: CoverPolicy, options: settings) -> None:
            view = custom_type(total, covers=covers)
            calls = st.tuples(st.just("add"), st.integers(1, 3))
            check_view(view, calls, expected, handle=lambda store, path: Total(store, path, view), options=options)

        check("own", FEW)
        with pytest.raises(AssertionError, match="specified is"):
            check("all", MANY)

    def test_a_view_that_fails_on_what_others_write(self) -> None:
        def total(shown: Sequence[Op]) -> Any:
            return sum(op.payload for op in shown)

        def expected(history: History) -> int:
            return 0

        with pytest.raises(TypeError):
            check_view(custom_type(total), CALLS, expected, options=MANY)


class TestNetwork:
    def test_deltas_wait_until_they_are_delivered(self) -> None:
        network = Network(3)
        network.write(0, lambda local: local.register("a").set(1))
        assert [local.register("a").value for local in network.replicas] == [1, None, None]
        assert [to for to, _ in network.in_flight] == [1, 2]
        network.deliver(1)
        assert [local.register("a").value for local in network.replicas] == [1, None, 1]

    def test_late_twice_and_out_of_order_is_all_the_same(self) -> None:
        network = Network(2)
        for _ in range(4):
            network.write(0, lambda local: local.log("log").append(len(local.log("log"))))
        for which, again in ((3, True), (1, False), (2, False), (1, False), (0, False)):
            network.deliver(which, again=again)
        assert network.in_flight == []
        assert network.replicas[1].log("log").value == [0, 1, 2, 3]

    def test_what_is_lost_comes_with_a_pull(self) -> None:
        network = Network(3)
        network.write(0, lambda local: local.set("s").add("x"))
        network.lose()
        network.lose()
        network.sync(1, 0)
        network.sync(2, 1)
        assert network.replicas[2].set("s").value == {"x"}

    def test_restarted_from_its_disk_a_replica_speaks_for_its_former_shelf(self) -> None:
        network = Network(2)
        network.write(0, lambda local: local.counter("c").add(5))
        former = network.replicas[0].shelf
        network.restart(0)
        assert network.replicas[0].shelf != former
        network.write(0, lambda local: local.counter("c").add(2))
        network.heal()
        assert [local.counter("c").value for local in network.replicas] == [7, 7]
        assert network.replicas[0].state_digest() == network.replicas[1].state_digest()
