"""Bounded counter: it never passes its bound, whatever is late, lost, repeated or restarted from its own disk."""

from __future__ import annotations

import operator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from crdt.errors import NotEnoughRights, UnsupportedValue, WriteRefused
from crdt.ids import ReplicaId, ShelfId, replica_of, shelf_id
from crdt.ops import NO_RIGHTS, VALUE, Op, Value
from crdt.testing import Network
from crdt.types import BOUNDED_COUNTER, BoundedCounter
from crdt.types.bounded_counter import Row, row_of, rows_of
from crdt.types.local import Local


def shelf(number: int) -> ShelfId:
    return shelf_id(ReplicaId(bytes((number,)) * 8), number)


def cell(origin: ShelfId, payload: Value) -> Op:
    return Op(VALUE, BOUNDED_COUNTER.code, ("stock",), payload, (), origin, 256, 1, NO_RIGHTS)


class Stock(RuleBasedStateMachine):
    """Replicas that add, take and hand over, among loss, reordering, repetition and restarts. `truth` is what nobody in the mesh
    knows: everything that ever succeeded, summed."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network(3)
        self.truth = 0
        self.refused = 0

    def counter(self, index: int) -> BoundedCounter:
        return self.network.replicas[index].bounded_counter("stock")

    @initialize(amount=st.integers(0, 9))
    def begin(self, amount: int) -> None:
        for index in range(3):  # every start of an agent writes at once: what leaves no trace cannot be inherited
            self.network.write(index, lambda replica: replica.flag("here").enable())
        self.add(0, amount)

    @rule(index=st.integers(0, 2), amount=st.integers(0, 9))
    def add(self, index: int, amount: int) -> None:
        self.network.write(index, lambda replica: replica.bounded_counter("stock").add(amount))
        self.truth += amount

    @rule(index=st.integers(0, 2), amount=st.integers(1, 9))
    def subtract(self, index: int, amount: int) -> None:
        counter = self.counter(index)
        here = counter.rights
        if amount > here:
            with pytest.raises(NotEnoughRights) as refused:
                counter.subtract(amount)
            assert refused.value.here == here
            assert self.network.send(index) == []
        else:
            self.network.write(index, lambda replica: replica.bounded_counter("stock").subtract(amount))
            self.truth -= amount

    @rule(index=st.integers(0, 2), to=st.integers(0, 2), amount=st.integers(1, 9), stale=st.booleans())
    def transfer(self, index: int, to: int, amount: int, stale: bool) -> None:
        """To the shelf that the giver knows: of a replica that has restarted since, the former one (`stale`)."""
        receiver = self.network.replicas[to].shelf
        known = [one for one in self.network.replicas[index].shelves() if replica_of(one) == replica_of(receiver)]
        target = known[0] if stale and known else receiver
        if target not in {*self.network.replicas[index].shelves(), self.network.replicas[index].shelf}:
            with pytest.raises(WriteRefused, match="0 shelves of that name"):
                self.counter(index).transfer(target, amount)
        elif amount <= self.counter(index).rights:
            self.network.write(index, lambda replica: replica.bounded_counter("stock").transfer(target, amount))

    @precondition(lambda self: self.network.in_flight)
    @rule(which=st.integers(0, 31), again=st.booleans())
    def deliver(self, which: int, again: bool) -> None:
        self.network.deliver(which % len(self.network.in_flight), again=again)

    @precondition(lambda self: self.network.in_flight)
    @rule(which=st.integers(0, 31))
    def lose(self, which: int) -> None:
        self.network.lose(which % len(self.network.in_flight))

    @rule(to=st.integers(0, 2), source=st.integers(0, 2))
    def sync(self, to: int, source: int) -> None:
        if to != source:
            self.network.sync(to, source)

    @rule(index=st.integers(0, 2))
    def restart(self, index: int) -> None:
        before = self.counter(index).rights
        self.network.restart(index)
        assert self.counter(index).rights == before, "rights pass on with a takeover from the own disk"

    @rule(index=st.integers(0, 2))
    def keep_house(self, index: int) -> None:
        replica = self.network.replicas[index]
        replica.drop(0.0, patience=0.0)
        replica.retire(lambda _: True)
        replica.repack()
        self.network.send(index)

    @invariant()
    def never_below_the_bound(self) -> None:
        assert self.truth >= 0
        assert all(self.counter(index).value >= 0 for index in range(3))
        assert all(self.counter(index).rights >= 0 for index in range(3))

    def teardown(self) -> None:
        self.network.heal()
        counters = [self.counter(index) for index in range(3)]
        assert [counter.value for counter in counters] == [self.truth] * 3
        assert sum(counter.rights for counter in counters) == self.truth, "every right has one holder"


def test_the_bound_holds_in_any_history() -> None:
    run_state_machine_as_test(Stock, settings=settings(max_examples=40, stateful_step_count=30, deadline=None))


class TestRights:
    def test_each_spends_what_it_added(self) -> None:
        replica = Local(shelf(1))
        counter = replica.bounded_counter("stock")
        counter.add(5)
        counter.subtract(2)
        assert (counter.value, counter.rights, int(counter.value)) == (3, 3, 3)

    def test_the_error_says_what_is_here_and_who_has_more(self) -> None:
        network = Network(3)
        network.write(0, lambda replica: replica.bounded_counter("stock").add(2))
        network.write(1, lambda replica: replica.bounded_counter("stock").add(7))
        network.heal()
        with pytest.raises(NotEnoughRights, match="stock: 3 wanted, 2 rights are here; 0202020202020202 holds 7") as refused:
            network.replicas[0].bounded_counter("stock").subtract(3)
        assert refused.value.here == 2
        assert refused.value.others == ((bytes([2]) * 8, 7),)
        assert network.replicas[0].bounded_counter("stock").value == 9, "nothing was written"

    def test_transferred_rights_can_be_spent_where_they_arrive(self) -> None:
        network = Network(2)
        network.write(0, lambda replica: replica.bounded_counter("stock").add(5))
        network.write(1, lambda replica: replica.flag("here").enable())
        network.heal()
        network.write(0, lambda replica: replica.bounded_counter("stock").transfer(bytes([2]) * 8, 4))
        assert [replica.bounded_counter("stock").rights for replica in network.replicas] == [1, 0]
        network.heal()
        network.write(1, lambda replica: replica.bounded_counter("stock").subtract(4))
        network.heal()
        assert [replica.bounded_counter("stock").value for replica in network.replicas] == [1, 1]
        assert network.replicas[0].bounded_counter("stock").rights_by_replica() == {bytes([1]) * 8: 1, bytes([2]) * 8: 0}

    def test_a_replica_that_nobody_knows_gets_nothing(self) -> None:
        counter = Local(shelf(1)).bounded_counter("stock")
        counter.add(5)
        for nobody in (bytes([9]) * 8, shelf(9)):
            with pytest.raises(WriteRefused, match="0 shelves of that name are known here"):
                counter.transfer(nobody, 1)
        counter.transfer(shelf(1), 1)
        counter.transfer(bytes([1]) * 8, 1)
        assert counter.rights == 5

    @pytest.mark.parametrize("taken_over", [True, False])
    def test_a_lost_disk_keeps_its_rights(self, taken_over: bool) -> None:
        """Nobody can know what had been spent: the rights stay with the former shelf until something critical moves them."""
        network = Network(2)
        network.write(0, lambda replica: replica.bounded_counter("stock").add(5))
        network.heal()
        network.wipe(0)
        network.heal()
        counter = network.replicas[0].bounded_counter("stock")
        assert (counter.value, counter.rights) == (5, 0)
        with pytest.raises(NotEnoughRights, match="0 rights are here; nobody else is known"):
            counter.subtract(1)
        if taken_over:
            network.write(0, lambda replica: replica.take_over())
        network.restart(0)
        assert network.replicas[0].bounded_counter("stock").rights == 0, "still"

    def test_the_heir_of_an_heir_inherits(self) -> None:
        network = Network(2)
        network.write(0, lambda replica: replica.bounded_counter("stock").add(5))
        for left in (4, 3, 2):
            network.restart(0)
            network.write(0, lambda replica: replica.bounded_counter("stock").subtract(1))
            assert network.replicas[0].bounded_counter("stock").rights == left

    @pytest.mark.parametrize("amount", [True, 1.0, "1", None])
    def test_only_integers(self, amount: object) -> None:
        counter = Local(shelf(1)).bounded_counter("stock")
        for act in (counter.add, counter.subtract):
            with pytest.raises(UnsupportedValue):
                act(amount)  # type: ignore[arg-type]
        with pytest.raises(UnsupportedValue):
            counter.subtract(-1)

    def test_adding_less_than_nothing_subtracts(self) -> None:
        counter = Local(shelf(1)).bounded_counter("stock")
        with pytest.raises(NotEnoughRights):
            counter.add(-1)
        counter.add(2)
        counter.add(-1)
        assert counter.value == 1

    def test_it_cannot_be_removed_or_shown_only_while_alive(self) -> None:
        replica = Local(shelf(1))
        counter = replica.map("shop").bounded_counter("stock")
        counter.add(5)
        with pytest.raises(WriteRefused, match="shop/stock is a bounded counter, which cannot be removed"):
            del replica.map("shop")["stock"]
        with pytest.raises(WriteRefused, match="while alive"):
            BoundedCounter(replica, "stock", while_alive=True).add(1)
        assert not BOUNDED_COUNTER.removable
        assert BOUNDED_COUNTER.commit_first


class TestView:
    def test_a_reader_who_lacks_a_row_sees_zero_rather_than_less(self) -> None:
        assert BOUNDED_COUNTER.view([cell(shelf(1), [0, 3])]) == 0

    def test_what_is_no_row_counts_for_nothing(self) -> None:
        wrong: list[Value] = [
            5,
            [],
            [1, 2, {}, 3],
            [-1],
            [1, -1],
            [True],
            [1, 0, {b"short": 1}],
            [1, 0, {bytes(shelf(2)): -1}],
            ["1"],
            [1, 0, []],
        ]
        for payload in wrong:
            assert row_of(cell(shelf(1), payload)) is None
            assert BOUNDED_COUNTER.view([cell(shelf(1), payload), cell(shelf(2), [4])]) == 4
        assert BOUNDED_COUNTER.verdicts([cell(shelf(1), 5), cell(shelf(2), [4])])[0].startswith("ignored")

    @given(
        st.integers(0, 2**40), st.integers(0, 2**40), st.dictionaries(st.sampled_from([shelf(2), shelf(3)]), st.integers(0, 99))
    )
    def test_a_row_reads_back(self, added: int, taken: int, given_away: dict[ShelfId, int]) -> None:
        row = Row(added, taken, given_away)
        assert rows_of([cell(shelf(1), row.payload())]) == {shelf(1): row}
        assert operator.eq(row.spent, taken + sum(given_away.values()))
