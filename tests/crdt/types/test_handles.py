"""Handles: Python's protocols, plain copies, clear refusals. On a bare replica, as on a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from crdt.errors import PathError, TypeConflict, UnsupportedValue, ValueTooLarge
from crdt.ids import Dot, ReplicaId, ShelfId, replica_of, shelf_id
from crdt.ops import WHILE_ALIVE
from crdt.testing import Network
from crdt.types import REGISTRY, Handle, Map, read, type_named, value_key
from crdt.types.local import Local
from crdt.types.log import LOG, POSITION_MAX
from crdt.types.paths import ordered


@pytest.fixture
def replica() -> Local:
    return Local(shelf_id(ReplicaId(b"replica1"), 1))


def met(*acts: Callable[[Local], object]) -> Local:
    """A replica that has what several did at the same time, each on a replica of its own."""
    network = Network(len(acts))
    for index, act in enumerate(acts):
        network.write(index, act)
    network.heal()
    return network.replicas[0]


WRITES: dict[str, Callable[[Local, bool], object]] = {
    "register": lambda r, alive: r.register("p", while_alive=alive).set(1),
    "multi-value register": lambda r, alive: r.multi_value("p", while_alive=alive).set(1),
    "counter": lambda r, alive: r.counter("p", while_alive=alive).add(1),
    "grow-only counter": lambda r, alive: r.grow_only_counter("p", while_alive=alive).add(1),
    "maximum": lambda r, alive: r.maximum("p", while_alive=alive).update(1),
    "minimum": lambda r, alive: r.minimum("p", while_alive=alive).update(1),
    "enable-wins flag": lambda r, alive: r.flag("p", while_alive=alive).enable(),
    "disable-wins flag": lambda r, alive: r.flag("p", disable_wins=True, while_alive=alive).enable(),
    "add-wins set": lambda r, alive: r.set("p", while_alive=alive).add(1),
    "remove-wins set": lambda r, alive: r.set("p", remove_wins=True, while_alive=alive).add(1),
    "list": lambda r, alive: r.list("p", while_alive=alive).append(1),
    "log": lambda r, alive: r.log("p", while_alive=alive).append(1),
    "bounded counter": lambda r, alive: r.bounded_counter("p").add(1),
    "custom": lambda r, alive: r.custom("p", list, while_alive=alive).set(1),
}


def test_every_type_has_a_way_to_write_it() -> None:
    assert set(WRITES) == {view.name for view in REGISTRY.values()}
    assert [type_named(name).name for name in ("add-wins-set", "counter")] == ["add-wins set", "counter"]
    with pytest.raises(KeyError, match="register, multi-value-register"):
        type_named("nonsense")


def test_codes_are_for_ever() -> None:
    """They are on the wire and in files: a change here loses the state of everybody."""
    assert {view.code: view.name for view in REGISTRY.values()} == {
        1: "register",
        2: "multi-value register",
        3: "counter",
        4: "grow-only counter",
        5: "maximum",
        6: "minimum",
        7: "enable-wins flag",
        8: "disable-wins flag",
        9: "add-wins set",
        10: "remove-wins set",
        11: "list",
        12: "log",
        13: "bounded counter",
        14: "custom",
    }


def test_only_what_adds_up_leaves_others_uncovered() -> None:
    """DESIGN section 1: a register that covers nothing never overwrites, a counter that covers loses additions."""
    assert {view.name for view in REGISTRY.values() if view.covers == "own"} == {
        "counter",
        "grow-only counter",
        "maximum",
        "minimum",
        "log",
        "bounded counter",
    }


class TestOneValue:
    def test_register(self, replica: Local) -> None:
        register = replica.register("robots/7/pose")
        assert (register.value, register.exists, register.clear()) == (None, False, None)
        dot = register.set([1, {"x": (2, 3)}])
        assert isinstance(dot, Dot)
        assert dot.origin == replica.shelf
        assert register.value == [1, {"x": [2, 3]}]
        assert register.clear() is not None
        assert (register.value, register.exists) == (None, False)

    def test_what_is_read_is_a_copy_and_what_is_written_too(self, replica: Local) -> None:
        mine = {"a": [1]}
        register = replica.register("p")
        register.set(mine)
        mine["a"].append(2)
        copy = register.value
        copy["a"].append(3)
        assert register.value == {"a": [1]}

    def test_maps_in_values_come_in_one_order(self, replica: Local) -> None:
        replica.register("p").set({"b": 1, "a": 2, b"c": 3})
        assert list(replica.register("p").value) == ["a", "b", b"c"]

    def test_a_register_that_holds_none_exists(self, replica: Local) -> None:
        replica.register("p").set(None)
        assert replica.register("p").exists

    def test_concurrent_values_are_all_kept_until_one_is_chosen(self) -> None:
        replica = met(lambda r: r.multi_value("p").set("a"), lambda r: r.multi_value("p").set("b"))
        values = replica.multi_value("p")
        assert sorted(values) == ["a", "b"]
        assert (len(values), "a" in values, "c" in values) == (2, True, False)
        values.set(values.value[0])
        assert len(values) == 1
        values.clear()
        assert values.value == []

    def test_counters(self, replica: Local) -> None:
        counter = replica.counter("p")
        counter.add()
        counter.add(-5)
        assert (counter.value, int(counter)) == (-4, -4)
        counter.clear()
        counter.add(2)
        assert counter.value == 2
        for wrong in (1.5, True, "1", None):
            with pytest.raises(UnsupportedValue, match="adds integers"):
                counter.add(wrong)  # type: ignore[arg-type]
        with pytest.raises(UnsupportedValue, match="use a counter"):
            replica.grow_only_counter("g").add(-1)

    def test_a_counter_cleared_by_another_starts_again_from_zero(self) -> None:
        network = Network(2)
        network.write(0, lambda r: r.counter("p").add(5))
        network.heal()
        network.write(1, lambda r: r.counter("p").clear())
        network.heal()
        network.write(0, lambda r: r.counter("p").add(1))
        network.heal()
        assert [r.counter("p").value for r in network.replicas] == [1, 1]

    def test_maximum_and_minimum(self, replica: Local) -> None:
        highest, lowest = replica.maximum("high"), replica.minimum("low")
        assert (highest.value, lowest.value) == (None, None)
        for number in (3, 7.5, -2):
            highest.update(number)
            lowest.update(number)
        assert (highest.value, lowest.value) == (7.5, -2)
        highest.clear()
        highest.update(1)
        assert highest.value == 1
        for wrong in (True, "1", float("nan"), None):
            with pytest.raises(UnsupportedValue, match="takes numbers"):
                highest.update(wrong)  # type: ignore[arg-type]

    def test_flags(self, replica: Local) -> None:
        for flag in (replica.flag("on"), replica.flag("stop", disable_wins=True)):
            assert not flag
            flag.enable()
            assert flag
            assert flag.value is True
            flag.disable()
            assert not flag
            flag.clear()
            assert flag.value is False

    def test_who_wins(self) -> None:
        network = Network(2)
        for disable_wins in (False, True):
            path = f"flag/{disable_wins}"
            network.write(0, lambda r, path=path, wins=disable_wins: r.flag(path, disable_wins=wins).enable())  # type: ignore[misc]
            network.heal()
            network.write(0, lambda r, path=path, wins=disable_wins: r.flag(path, disable_wins=wins).enable())  # type: ignore[misc]
            network.write(1, lambda r, path=path, wins=disable_wins: r.flag(path, disable_wins=wins).disable())  # type: ignore[misc]
            network.heal()
            assert [bool(r.flag(path, disable_wins=disable_wins)) for r in network.replicas] == [not disable_wins] * 2


class TestSets:
    def test_reads_like_a_set(self, replica: Local) -> None:
        tags = replica.set("tags")
        tags.update(["a", 1, ("b", 2), None, b"c"])
        assert tags.value == {"a", 1, ("b", 2), None, b"c"}
        expected: Any = {"a", 1, ("b", 2), None, b"c"}
        assert tags == expected
        assert len(tags) == 5
        assert ("b", 2) in tags
        assert "z" not in tags
        wrong: list[Any] = [[1], {}]
        assert not any(element in tags for element in wrong)
        assert tags & {"a", "z"} == {"a"}
        assert type(tags | {"z"}) is set
        assert sorted(map(str, tags)) == sorted(map(str, tags.value))

    def test_removing(self, replica: Local) -> None:
        tags = replica.set("tags")
        tags.update("abc")
        assert tags.discard("z") is None
        assert tags.discard("a") is not None
        tags.remove("b")
        with pytest.raises(KeyError):
            tags.remove("b")
        tags.clear()
        assert tags.value == set()

    def test_long_elements(self, replica: Local) -> None:
        for tags in (replica.set("add"), replica.set("remove", remove_wins=True)):
            long = "x" * 200, ("y" * 100, 5)
            tags.update(long)
            assert tags.value == set(long)
            assert long[1] in tags
            tags.discard(long[0])
            assert tags.value == {long[1]}

    def test_what_is_equal_in_python_is_one_element(self, replica: Local) -> None:
        tags = replica.set("tags")
        tags.update([1, 1.0, True])
        assert len(tags) == 1
        tags.discard(1.0)
        assert 1 not in tags

    def test_a_removal_that_wins_beats_an_addition_on_its_way(self) -> None:
        acts: tuple[Callable[[Local], object], ...] = (
            lambda r: r.set("s", remove_wins=True).add("x"),
            lambda r: r.set("s", remove_wins=True).discard("x"),
        )
        replica = met(*acts)
        assert replica.set("s", remove_wins=True).value == set()
        replica.set("s", remove_wins=True).add("x")
        assert replica.set("s", remove_wins=True).value == {"x"}
        replica.set("s", remove_wins=True).clear()
        assert replica.set("s", remove_wins=True).value == set()

    def test_no_place_for_what_is_no_element(self, replica: Local) -> None:
        with pytest.raises(UnsupportedValue, match="dict"):
            replica.set("tags").add({})  # type: ignore[arg-type]


class TestSequences:
    def test_reads_like_a_list(self, replica: Local) -> None:
        plan = replica.list("plan")
        plan.extend("abcdef")
        assert plan.value == list("abcdef")
        assert (plan[0], plan[-1], plan[1:3], len(plan)) == ("a", "f", ["b", "c"], 6)
        assert list(plan) == list("abcdef")
        assert list(reversed(plan)) == list("fedcba")
        assert ("c" in plan, plan.index("c"), plan.count("z")) == (True, 2, 0)
        with pytest.raises(IndexError):
            plan[6]

    @pytest.mark.parametrize("index", [0, 1, 2, 3, -1, -2, -3, 99, -99])
    def test_insert_means_what_python_means(self, replica: Local, index: int) -> None:
        plan, expected = replica.list("plan"), list("abc")
        plan.extend(expected)
        plan.insert(index, "new")
        expected.insert(index, "new")
        assert plan.value == expected

    def test_changing_and_removing(self, replica: Local) -> None:
        plan = replica.list("plan")
        plan.extend("abcdefgh")
        plan[1] = ["B"]
        plan[-1] = "H"
        assert plan.pop() == "H"
        assert plan.pop(0) == "a"
        del plan[0]
        del plan[1:3]
        plan.remove("g")
        assert plan.value == ["c", "f"]
        for act in (lambda: plan.pop(5), lambda: plan.__delitem__(5), lambda: plan.__setitem__(5, 1)):
            with pytest.raises(IndexError):
                act()
        with pytest.raises(ValueError, match="z"):
            plan.remove("z")
        plan.clear()
        assert plan.value == []
        plan.append("again")
        assert plan.value == ["again"]

    def test_a_list_that_many_append_to_by_turns(self) -> None:
        """Places become longer than a segment and are named by their hash; the list does not care."""
        network = Network(4)
        for number in range(80):
            network.write(number % 4, lambda r, number=number: r.list("plan").append(number))  # type: ignore[misc]
            network.heal()
        longest = max(network.replicas[0].keys(("plan",)), key=lambda key: len(key[1][-1]))
        assert len(longest[1][-1]) <= 64
        assert network.replicas[0].list("plan").value == list(range(80))
        network.write(1, lambda r: r.list("plan").__setitem__(79, "last"))
        network.write(2, lambda r: r.list("plan").insert(40, "middle"))
        network.write(3, lambda r: r.list("plan").pop(0))
        network.heal()
        expected = [*range(1, 40), "middle", *range(40, 79), "last"]
        assert all(r.list("plan").value == expected for r in network.replicas)

    def test_a_thousand_items_take_a_thousand_short_keys(self, replica: Local) -> None:
        replica.list("plan").extend(range(1000))
        assert replica.list("plan").value == list(range(1000))
        assert max(len(path[-1]) for _, path in replica.keys(("plan",))) <= 20

    def test_log(self, replica: Local) -> None:
        log = replica.log("log")
        log.append({"event": "start"})
        log.extend([1, 2])
        assert log.value == [{"event": "start"}, 1, 2]
        assert (log[1], log[1:], len(log), 2 in log, next(iter(log))["event"]) == (1, [1, 2], 3, True, "start")

    def test_a_log_orders_what_was_seen_before_what_was_written_then_whatever_the_clocks_say(self) -> None:
        network = Network(2, skews=[10**9, 0])
        network.write(0, lambda r: r.log("log").append("first, by a fast clock"))
        network.heal()
        network.write(1, lambda r: r.log("log").append("second"))
        network.write(0, lambda r: r.log("log").append("second too"))
        network.heal()
        assert network.replicas[0].log("log").value == ["first, by a fast clock", "second", "second too"]
        assert network.replicas[1].log("log").value == network.replicas[0].log("log").value

    def test_a_log_that_somebody_filled_to_the_end_goes_on(self, replica: Local) -> None:
        """At the last position entries share it, but never a path: none overwrites another."""
        replica.draft(LOG.code, ("log", ordered(POSITION_MAX) + ordered(1)), "hostile", covers="own")
        replica.log("log").extend("abc")
        assert replica.log("log").value == ["hostile", "a", "b", "c"]


class TestMap:
    def test_reads_like_a_dict(self, replica: Local) -> None:
        robot = replica.map("robots").map("7")
        robot["pose"] = [1, 2]
        robot[5] = "five"
        robot[("a", 1)] = {"inner": 1}
        robot.update({"name": "Bo", "": "empty"})
        assert robot.value == {"pose": [1, 2], 5: "five", ("a", 1): {"inner": 1}, "name": "Bo", "": "empty"}
        assert robot == robot.value
        assert set(robot) == {"pose", 5, ("a", 1), "name", ""}
        assert (len(robot), robot["pose"], robot.get("none", 9), 5 in robot, 6 in robot) == (5, [1, 2], 9, True, False)
        missing: list[Any] = ["none", {}, None, "x" * 300]
        for key in missing:
            with pytest.raises(KeyError):
                robot[key]

    def test_text_keys_are_paths(self, replica: Local) -> None:
        replica.register("robots/7/pose").set([1, 2])
        replica.map("robots").map("8")["pose"] = [3]
        assert replica.map("robots").value == {"7": {"pose": [1, 2]}, "8": {"pose": [3]}}
        assert replica.register("robots/8/pose").value == [3]

    def test_parts_of_every_type(self, replica: Local) -> None:
        robot = replica.map("robot")
        robot.register("register").set(1)
        robot.multi_value("multi").set(2)
        robot.counter("counter").add(3)
        robot.grow_only_counter("grows").add(4)
        robot.bounded_counter("bounded").add(5)
        robot.maximum("max").update(6)
        robot.minimum("min").update(7)
        robot.set("set").add(8)
        robot.set("set2", remove_wins=True).add(9)
        robot.flag("flag").enable()
        robot.flag("flag2", disable_wins=True).enable()
        robot.list("list").append(10)
        robot.log("log").append(11)
        robot.map("map").map(1)["x"] = 12
        assert robot.value == {
            "register": 1,
            "multi": [2],
            "counter": 3,
            "grows": 4,
            "bounded": 5,
            "max": 6,
            "min": 7,
            "set": {8},
            "set2": {9},
            "flag": True,
            "flag2": True,
            "list": [10],
            "log": [11],
            "map": {1: {"x": 12}},
        }
        assert all(robot[key] == value for key, value in robot.value.items())

    def test_removing_a_key_removes_all_below_it(self, replica: Local) -> None:
        robot = replica.map("robot")
        robot["a"] = 1
        robot.map("arm")["x"] = 1
        robot.map("arm").set("tags").update("ab")
        robot.map("arm").counter("n").add(1)
        assert len(robot.discard("arm")) == 4
        assert robot.value == {"a": 1}
        with pytest.raises(KeyError):
            del robot["arm"]
        assert robot.discard("arm") == []
        robot.clear()
        assert dict(robot) == {}
        assert replica.keys(("robot",)) != [], "removals are cells until they retire"

    def test_what_is_added_below_at_the_same_time_survives(self) -> None:
        network = Network(2)
        network.write(0, lambda r: r.map("m").map("k").__setitem__("old", 1))
        network.heal()
        network.write(0, lambda r: r.map("m").discard("k"))
        network.write(1, lambda r: r.map("m").map("k").__setitem__("new", 2))
        network.heal()
        assert [r.map("m").value for r in network.replicas] == [{"k": {"new": 2}}] * 2

    def test_a_map_at_a_path_that_is_also_a_set_touches_only_its_keys(self, replica: Local) -> None:
        replica.set("p").add("element")
        replica.map("p")["key"] = 1
        assert replica.map("p").value == {"key": 1}
        assert replica.set("p").value == {"element"}
        replica.map("p").clear()
        assert replica.set("p").value == {"element"}

    def test_a_value_with_others_below_it_is_at_none(self, replica: Local) -> None:
        replica.register("a/b").set("here")
        replica.register("a/b/c").set("below")
        assert replica.map("a").value == {"b": {None: "here", "c": "below"}}
        with pytest.raises(UnsupportedValue, match="None cannot be a key"):
            replica.map("a")[None] = 1

    def test_a_register_does_not_silently_replace_a_part(self, replica: Local) -> None:
        robot = replica.map("robot")
        robot.map("arm")["x"] = 1
        robot.set("tags").add(1)
        for key in ("arm", "tags"):
            with pytest.raises(TypeConflict):
                robot[key] = 5
        del robot["arm"]
        robot["arm"] = 5
        assert robot["arm"] == 5

    def test_bytes_that_are_no_key_are_somebody_elses(self, replica: Local) -> None:
        replica.register(("m", b"\xff\xff")).set(1)
        replica.register(("m", "k")).set(2)
        assert replica.map("m").value == {"k": 2}


class TestConflicts:
    @pytest.mark.parametrize("name", sorted(set(WRITES) - {"register"}))
    def test_two_types_at_one_path_are_refused(self, replica: Local, name: str) -> None:
        WRITES[name](replica, False)
        register = replica.register("p")
        for act in (lambda: register.set(1), lambda: register.value):
            with pytest.raises(TypeConflict, match=f"p is an? {name}, not a register"):
                act()
        other = Local(replica.shelf)
        other.register("p").set(1)
        with pytest.raises(TypeConflict, match=f"p is a register, not an? {name}"):
            WRITES[name](other, False)

    def test_after_a_removal_the_path_is_free(self, replica: Local) -> None:
        replica.counter("p").add(1)
        replica.counter("p").clear()
        replica.register("p").set("free")
        assert replica.register("p").value == "free"

    def test_halves_that_disagreed_keep_both(self) -> None:
        replica = met(lambda r: r.counter("p").add(3), lambda r: r.register("p").set("x"))
        assert (replica.counter("p").value, replica.register("p").value) == (3, "x")
        replica.counter("p").add(1)
        with pytest.raises(TypeConflict):
            replica.flag("p").enable()
        assert [read(replica, key) for key in replica.keys_at(("p",))] == ["x", 4]

    def test_long_paths_leave_room_for_elements(self, replica: Local) -> None:
        full = "/".join("abcdefghijklmnop")
        replica.register(full).set(1)
        for make in (replica.set, replica.list, replica.log, replica.map):
            with pytest.raises(PathError, match="no room"):
                make(full)


class TestPresence:
    """`while_alive`: shown only while the author's shelf is live."""

    @pytest.mark.parametrize("name", sorted(set(WRITES) - {"bounded counter"}))
    @pytest.mark.parametrize("alive", [True, False])
    def test_any_type(self, name: str, alive: bool) -> None:
        author, gone = Local(shelf_id(ReplicaId(b"author00"), 1)), set[ShelfId]()
        reader = Local(shelf_id(ReplicaId(b"reader00"), 1), alive=lambda shelf: shelf not in gone)
        WRITES[name](author, alive)
        for delta in author.seal():
            reader.receive(delta)
        (key,) = {value_key(key) for key in reader.keys(())}
        before = read(reader, key)
        gone.add(author.shelf)
        after = read(reader, key)
        assert (before == after) is not alive
        assert not alive or not after

    def test_one_write_of_a_handle(self, replica: Local) -> None:
        """Said at the handle, or at the write."""
        replica.register("p", while_alive=True).set(1)
        assert replica.cells((1, ("p",)))[0].kind & WHILE_ALIVE
        replica.register("q").set(1, while_alive=True)
        assert replica.cells((1, ("q",)))[0].kind & WHILE_ALIVE
        replica.register("p", while_alive=True).set(1, while_alive=False)
        assert not replica.cells((1, ("p",)))[0].kind & WHILE_ALIVE

    def test_in_a_map(self, replica: Local) -> None:
        replica.map("p", while_alive=True).map("k")["x"] = 1
        assert replica.cells((1, ("p", "k", "x")))[0].kind & WHILE_ALIVE


class TestHistory:
    def reasons(self, handle: Handle[Any] | Map) -> list[tuple[str, str]]:
        return [(replica_of(op.origin).hex()[:2], reason) for op, reason in handle.history()]

    def test_of_concurrent_writes_the_later_time_wins(self) -> None:
        network = Network(3, skews=[0, 5, 0])
        for index in range(3):
            network.write(index, lambda r: r.register("p").set(1))
        network.heal()
        winner = network.replicas[1].shelf
        lines = self.reasons(network.replicas[0].register("p"))
        assert [line[0] for line in lines] == ["01", "02", "03"]
        assert lines[1][1] == "shown"
        assert lines[0][1] == lines[2][1] == f"loses: later time in {replica_of(winner).hex()}.00000002:1.0"

    def test_an_overwrite_covers_what_it_has_seen(self) -> None:
        network = Network(2)
        network.write(0, lambda r: r.register("p").set(1))
        network.heal()
        network.write(1, lambda r: r.register("p").set(2))
        lines = self.reasons(network.replicas[1].register("p"))
        assert lines == [("01", "covered by 0202020202020202.00000002:1.0"), ("02", "shown")]
        network.write(1, lambda r: r.register("p").clear())
        assert self.reasons(network.replicas[1].register("p"))[1] == ("02", "a removal: hides what it had seen")

    def test_a_tie_is_decided_by_origin(self) -> None:
        replica = met(lambda r: r.register("p").set(1), lambda r: r.register("p").set(2))
        assert self.reasons(replica.register("p"))[0][1].startswith("loses: the same time, a higher origin in 0202")

    def test_who_wins_is_said_in_every_type(self) -> None:
        stop = met(lambda r: r.flag("f", disable_wins=True).enable(), lambda r: r.flag("f", disable_wins=True).disable())
        assert [why for _, why in self.reasons(stop.flag("f", disable_wins=True))] == [
            "loses: a concurrent disabling wins",
            "shown",
        ]
        tags = met(lambda r: r.set("s", remove_wins=True).add(1), lambda r: r.set("s", remove_wins=True).discard(1))
        assert [why for _, why in self.reasons(tags.set("s", remove_wins=True))] == [
            "loses: a concurrent removal wins",
            "shown: a removal stays until an addition has seen it",
        ]
        high = met(lambda r: r.maximum("m").update(1), lambda r: r.maximum("m").update(2))
        assert [why for _, why in self.reasons(high.maximum("m"))] == ["loses: there is a higher number", "shown"]
        low = met(lambda r: r.minimum("m").update(1), lambda r: r.minimum("m").update(2))
        assert [why for _, why in self.reasons(low.minimum("m"))] == ["shown", "loses: there is a lower number"]

    def test_a_map_explains_all_below_it(self, replica: Local) -> None:
        replica.map("m")["a"] = 1
        replica.map("m").set("s").update([1, 2])
        assert [reason for _, reason in replica.map("m").history()] == ["shown"] * 3

    def test_presence_is_said(self) -> None:
        author = Local(shelf_id(ReplicaId(b"author00"), 1))
        reader = Local(shelf_id(ReplicaId(b"reader00"), 1), alive=lambda shelf: False)
        author.register("p", while_alive=True).set(1)
        for delta in author.seal():
            reader.receive(delta)
        assert [reason for _, reason in reader.register("p").history()] == ["hidden: its author is not alive"]


class TestRefusalsSayWhatToDo:
    @pytest.mark.parametrize("path", [3, None, True, ["a", "b"], b"a"])
    def test_what_is_no_path_is_called_so(self, replica: Local, path: Any) -> None:
        with pytest.raises(PathError, match="is not a path"):
            replica.register(path)

    def test_a_view_that_is_no_function_is_refused_where_it_is_given(self, replica: Local) -> None:
        not_a_view: Any = 3
        with pytest.raises(TypeError, match="3 is not a function"):
            replica.custom("p", not_a_view)

    def test_the_conflict_reads_as_english(self, replica: Local) -> None:
        replica.counter("c").add(1)
        with pytest.raises(TypeConflict, match=r"^c is a counter, not an add-wins set: use it as a counter"):
            replica.set("c").add(1)

    def test_a_value_too_large_names_its_path_as_people_write_it(self, replica: Local) -> None:
        with pytest.raises(ValueTooLarge, match="the value at maps/floor-2 has"):
            replica.register("maps/floor-2").set("x" * (1 << 20))
