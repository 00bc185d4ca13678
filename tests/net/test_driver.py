"""The loop over real loopback sockets."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import pytest
import trio
import trio.testing

from crdt.ops import Key
from mesh.effects import REST_SECONDS, Now
from mesh.net.clock import SystemClock
from mesh.net.open_udp import open_udp
from mesh.net.turns import LATE_SECONDS
from mesh.net.udp import DRAIN_MAX, UdpSocket
from mesh.quorum.rows import QuorumBatch
from mesh.store.memory_journal import MemoryJournal
from mesh.store.rows import Batch
from tests.net.agents import Agent, agent, until, writing
from tests.net.echo import Answered, EchoCore


async def test_two_cores_talk_and_everything_they_ask_for_happens() -> None:
    async with agent(100) as one, agent(100) as two, trio.open_nursery() as nursery:
        await nursery.start(one.driver.run)
        await nursery.start(two.driver.run)
        one.core.write(0, two.socket.address)
        one.driver.wake()
        await until(lambda: 100 in one.core.received + two.core.received)
        assert two.core.received == list(range(0, 101, 2))
        assert one.core.received == list(range(1, 101, 2))
        assert two.changes == [(0, (str(number),)) for number in range(0, 101, 2)]
        assert two.events == [Answered()] * 51
        assert one.batches == [Batch(meta={"0": b"written"})]
        assert two.batches == []
        nursery.cancel_scope.cancel()


async def test_a_local_write_leaves_before_the_event_loop_waits_again() -> None:
    """The datagram is in the receiver's socket when the writer comes back, and all writes of one step share a turn."""
    async with writing(may_rest=False) as (one, receiver):
        turns = len(one.core.ticks)
        for number in range(3):
            one.core.write(number, receiver.address)
            one.driver.wake()
        assert receiver.drain() == []  # nothing happens behind the writer's back
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        assert [datagram for datagram, _ in receiver.drain()] == [b"0", b"1", b"2"]
        assert one.batches == [Batch(meta=dict.fromkeys("012", b"written"))]
        assert len(one.core.ticks) == turns + 1


async def test_who_is_in_a_hurry_does_not_wait_for_the_event_loop() -> None:
    """And where there is no turn to be made now, it comes as after `wake`."""
    async with agent() as one, trio.open_nursery() as nursery:
        with await open_udp("127.0.0.1:0") as receiver:
            one.core.write(0, receiver.address)
            one.driver.hurry()
            assert one.core.ticks == [], "it does not run yet"
            await nursery.start(one.driver.run)
            await trio.testing.wait_all_tasks_blocked()
            assert [datagram for datagram, _ in receiver.drain()] == [b"0"]
            turns = len(one.core.ticks)
            one.core.write(1, receiver.address)
            one.core.deadline = SystemClock().now().monotonic + 0.01
            one.driver.hurry()
            assert [datagram for datagram, _ in receiver.drain()] == [b"1"]
            assert len(one.core.ticks) == turns + 1
            await until(lambda: len(one.core.ticks) == turns + 2)  # the deadline that this turn brought
            one.driver.wake()
            one.driver.hurry()
            assert len(one.core.ticks) == turns + 2, "others are about to write, too"
            await trio.testing.wait_all_tasks_blocked()
            assert len(one.core.ticks) == turns + 3
        nursery.cancel_scope.cancel()


async def test_a_wake_during_a_turn_is_not_lost() -> None:
    """A watcher that writes from the callback is inside the turn: its write must not wait for the next datagram."""
    async with agent() as one, trio.open_nursery() as nursery:
        with await open_udp("127.0.0.1:0") as other:

            def answer(changes: Sequence[Key]) -> None:
                one.core.write(7, other.address)
                one.driver.wake()

            one.driver.turns._on_changes = answer
            await nursery.start(one.driver.run)
            other.send(b"1", one.socket.address)
            with trio.fail_after(2):
                await trio.lowlevel.wait_readable(other)
            assert other.drain() == [(b"7", one.socket.address)]
        nursery.cancel_scope.cancel()


async def test_a_wake_before_the_start_is_not_lost() -> None:
    async with agent() as one, agent() as two, trio.open_nursery() as nursery:
        one.core.write(5, two.socket.address)
        one.driver.wake()
        await nursery.start(one.driver.run)
        with trio.fail_after(2):
            await trio.lowlevel.wait_readable(two.socket)
        nursery.cancel_scope.cancel()


async def test_the_deadline_is_kept_and_an_idle_core_is_left_alone() -> None:
    async with agent() as one, trio.open_nursery() as nursery:
        wanted = SystemClock().now().monotonic + 0.05
        one.core.deadline = wanted
        await nursery.start(one.driver.run)
        await until(lambda: one.core.ticks)
        await trio.sleep(0.05)
        assert len(one.core.ticks) == 1
        assert 0 <= one.core.ticks[0].monotonic - wanted < 1  # a machine under load is late, never early
        nursery.cancel_scope.cancel()


async def test_a_flood_starves_neither_timers_nor_other_tasks() -> None:
    """More datagrams than a turn takes: between two batches the core ticks, and other tasks get their turn."""
    async with agent() as one, agent() as two, trio.open_nursery() as nursery:
        flood = 3 * DRAIN_MAX
        assert all(one.socket.send(b"1", two.socket.address) for _ in range(flood))
        others = 0

        async def another() -> None:
            nonlocal others
            while True:
                await trio.lowlevel.checkpoint()
                others += 1

        nursery.start_soon(another)
        await nursery.start(two.driver.run)
        await until(lambda: len(two.core.received) == flood)
        assert len(two.core.ticks) >= 3
        assert others >= 3
        handled, ticks = two.core.handled, two.core.ticks
        assert handled[0].monotonic <= ticks[0].monotonic <= handled[1].monotonic, (
            "after a pause one is taken, since there is hardly ever another one"
        )
        assert handled[DRAIN_MAX].monotonic <= ticks[1].monotonic <= handled[DRAIN_MAX + 1].monotonic
        nursery.cancel_scope.cancel()


async def test_what_goes_to_the_disk_together_is_taken_together_also_after_a_pause() -> None:
    """Each datagram of a long list of blocks began a sync of its own, and the acknowledgement of the last waited for two."""
    async with agent() as two, trio.open_nursery() as nursery:
        two.core.waits = True
        with await open_udp("127.0.0.1:0") as other:
            for number in range(DRAIN_MAX + 1):
                other.send(b"%d" % number, two.socket.address)
        await nursery.start(two.driver.run)
        await until(lambda: len(two.core.handled) == DRAIN_MAX + 1)
        handled, ticks = two.core.handled, two.core.ticks
        assert handled[DRAIN_MAX - 1].monotonic <= ticks[0].monotonic <= handled[DRAIN_MAX].monotonic
        nursery.cancel_scope.cancel()


class Storing(EchoCore):
    """Has something to say once the disk is ready, and something to do by and by."""

    def urgent_committed(self, ticket: int, now: Now) -> bool:
        self.write(ticket, self.to)
        self.deadline = now.monotonic + self.late_seconds
        return True

    to = ("127.0.0.1", 1)
    late_seconds = 3600.0


async def test_who_is_waited_for_answers_when_the_disk_is_ready_and_turns_later() -> None:
    with await open_udp("127.0.0.1:0") as socket, await open_udp("127.0.0.1:0") as other:
        one = Agent(core := Storing(), socket)
        core.to = other.address
        async with trio.open_nursery() as nursery:
            await nursery.start(one.driver.run)
            core.rests = True
            await trio.testing.wait_all_tasks_blocked()
            turns = len(core.ticks)
            one.journal.on_durable(1)
            await trio.testing.wait_all_tasks_blocked()
            assert [datagram for datagram, _ in other.drain()] == [b"1"]
            assert len(core.ticks) == turns
            core.late_seconds = 0.01
            one.journal.on_durable(2)
            assert len(core.ticks) == turns
            await until(lambda: len(core.ticks) > turns)
            core.rests, turns = False, len(core.ticks)
            one.journal.on_durable(3)
            assert len(core.ticks) == turns + 1
            assert [datagram for datagram, _ in other.drain()] == [b"2", b"3"]
            nursery.cancel_scope.cancel()


class Promising(Storing):
    """Has something for the disk that somebody waits for."""

    wants = True
    seen: list[bytes]

    def urgent(self, now: Now) -> QuorumBatch | None:
        wants, self.wants = self.wants, False
        return QuorumBatch(7, (), 0, True) if wants else None

    def tick(self, now: Now) -> None:
        self.seen += [datagram for datagram, _ in self.other.drain()]
        super().tick(now)

    other: UdpSocket


class Pushing(Promising):
    """Has something to push at its first turn, and nothing for the disk."""

    wants = False

    def push(self, now: Now) -> bool:
        if not self.ticks:
            self.write(9, self.to)
        return not self.ticks


@pytest.mark.parametrize(("kind", "sent"), [(Promising, b"7"), (Pushing, b"9")], ids=["promised", "written"])
async def test_what_others_wait_for_is_sent_before_anything_else_is_done(kind: type[Promising], sent: bytes) -> None:
    """A follower kept its books first, and everybody waited for its acknowledgement; so it was with what was written here."""
    with await open_udp("127.0.0.1:0") as socket, await open_udp("127.0.0.1:0") as other:
        one = Agent(core := kind(), socket)
        core.to, core.other, core.seen = other.address, other, []
        async with trio.open_nursery() as nursery:
            await nursery.start(one.driver.run)
            one.driver.wake()
            await until(lambda: core.ticks)
            assert core.seen == [sent]
            nursery.cancel_scope.cancel()


class Visited(MemoryJournal):
    """Has news for whoever comes by."""

    def visit(self) -> None:
        self.on_durable(8)


async def test_the_journal_is_visited_with_each_datagram() -> None:
    """Its answer is sent before that to the datagram is: it may be all that others wait for."""
    with await open_udp("127.0.0.1:0") as socket, await open_udp("127.0.0.1:0") as other:
        one = Agent(core := Storing(), socket, journal=Visited())
        core.to, core.rests = other.address, True
        async with trio.open_nursery() as nursery:
            await nursery.start(one.driver.run)
            other.send(b"3", socket.address)
            await until(lambda: core.handled)
            assert [datagram for datagram, _ in other.drain()] == [b"8"]
            nursery.cancel_scope.cancel()


async def test_what_may_rest_is_told_at_once() -> None:
    async with agent() as reader, agent() as writer, trio.open_nursery() as nursery:
        reader.driver.turns.rest_seconds = 3600.0
        await nursery.start(reader.driver.run)
        reader.core.rests = True
        for number in (1, 2):
            writer.socket.send(b"%d" % number, reader.socket.address)
            await until(lambda: len(reader.core.handled) == number)  # noqa: B023  # asked before the next one
            assert reader.changes == [(0, (str(each),)) for each in range(1, number + 1)]
        assert reader.core.ticks == [], "the turn came before its time"
        assert reader.events == []
        reader.driver.wake()
        await until(lambda: reader.core.ticks)
        assert len(reader.core.ticks) == 1, "one turn is enough for all that rested"
        assert reader.events == [Answered(), Answered()]
        nursery.cancel_scope.cancel()


async def test_what_may_rest_is_answered_at_once() -> None:
    """A ping took a whole turn, a third of what an idle agent did."""
    async with agent(limit=2) as reader, agent() as writer, trio.open_nursery() as nursery:
        reader.driver.turns.rest_seconds = 3600.0
        await nursery.start(reader.driver.run)
        await nursery.start(writer.driver.run)
        reader.core.rests = True
        writer.socket.send(b"1", reader.socket.address)
        await until(lambda: writer.core.received == [2])
        assert reader.core.ticks == []
        nursery.cancel_scope.cancel()


async def test_what_rests_is_settled_soon() -> None:
    async with agent() as reader, agent() as writer, trio.open_nursery() as nursery:
        await nursery.start(reader.driver.run)
        reader.core.rests = True
        writer.socket.send(b"1", reader.socket.address)
        await until(lambda: reader.core.ticks)
        assert reader.core.ticks[0].monotonic - reader.core.handled[0].monotonic >= REST_SECONDS * 0.9
        nursery.cancel_scope.cancel()


async def test_what_leaves_nothing_to_settle_wakes_nobody_before_the_deadline() -> None:
    """Every answer to a ping did, a tenth of a second later: a fifth of all wake-ups of an idle agent."""
    async with agent() as reader, agent() as writer, trio.open_nursery() as nursery:
        reader.driver.turns.rest_seconds = 0.0
        reader.core.rests = reader.core.settles_at_once = True
        reader.core.deadline = due = SystemClock().now().monotonic + 0.2
        await nursery.start(reader.driver.run)
        writer.socket.send(b"1", reader.socket.address)
        await until(lambda: reader.core.ticks)
        assert reader.core.received == [1]
        assert reader.core.ticks[0].monotonic >= due
        nursery.cancel_scope.cancel()


async def test_news_puts_off_what_is_due_soon_and_nothing_else() -> None:
    async with agent() as reader, agent() as writer:
        turns, core = reader.driver.turns, reader.core
        turns.rest_seconds = 3600.0
        core.rests, core.courtesy = True, 1.0
        for number, seconds in enumerate((3600.0, 0.0)):
            core.deadline = due = SystemClock().now().monotonic + seconds
            turns.wait_until(due)
            writer.socket.send(b"%d" % number, reader.socket.address)
            await trio.lowlevel.wait_readable(reader.socket.fileno())
            turns.take_in()
            assert turns.due == core.deadline == (due if seconds else due + core.courtesy)


async def test_what_the_disk_brings_may_bring_the_next_turn_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader's own disk was ready, its followers were slow: what waited for company was cut at the next heartbeat, for the loop
    did not hear that it was due sooner."""
    async with agent() as leader, trio.open_nursery() as nursery:
        await nursery.start(leader.driver.run)
        await trio.testing.wait_all_tasks_blocked()
        turns = len(leader.core.ticks)

        def stored(_ticket: int, now: Now) -> bool:
            leader.core.deadline = now.monotonic + 0.02
            return False

        monkeypatch.setattr(leader.core, "urgent_committed", stored)
        leader.journal.on_durable(1)
        await until(lambda: len(leader.core.ticks) > turns)
        nursery.cancel_scope.cancel()


async def test_nothing_rests_while_somebody_waits_for_a_turn() -> None:
    async with agent() as reader, agent() as writer, trio.open_nursery() as nursery:
        reader.driver.turns.rest_seconds = 3600.0
        await nursery.start(reader.driver.run)
        reader.core.rests = True
        nursery.start_soon(reader.driver.next_turn)
        await trio.testing.wait_all_tasks_blocked()
        writer.socket.send(b"1", reader.socket.address)
        await until(lambda: reader.core.ticks)
        nursery.cancel_scope.cancel()


async def test_a_flood_of_what_may_rest_starves_neither_turns_nor_other_tasks() -> None:
    async with agent() as reader, agent() as writer, trio.open_nursery() as nursery:
        await nursery.start(reader.driver.run)
        reader.core.rests = True
        while not reader.core.ticks:
            for number in range(DRAIN_MAX):
                writer.socket.send(b"%d" % number, reader.socket.address)
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_a_core_whose_deadline_stays_in_the_past_blocks_nobody() -> None:
    async with agent() as one, trio.open_nursery() as nursery:

        def never_satisfied(now: object) -> None:
            one.core.ticks.append(SystemClock().now())

        one.core.tick = never_satisfied  # type: ignore[method-assign]  # a core with a bug
        one.core.deadline = 0.0
        await nursery.start(one.driver.run)
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert len(one.core.ticks) >= 10
        nursery.cancel_scope.cancel()


async def test_a_core_that_always_wakes_its_driver_can_be_cancelled() -> None:
    """It never comes to a wait that could be cancelled."""
    async with agent() as one:
        one.driver.turns.on_turn = one.driver.wake
        one.driver.wake()
        with trio.fail_after(2):
            async with trio.open_nursery() as nursery:
                await nursery.start(one.driver.run)
                for _ in range(10):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        assert len(one.core.ticks) >= 3


@pytest.mark.parametrize("number", range(10))  # trio tosses a coin for the order of tasks
async def test_what_has_arrived_counts_before_a_turn_that_is_late(number: int) -> None:
    """An answer was in the socket when a process came back from a stall, and the question was given up all the same."""
    async with agent() as reader, agent() as writer, trio.open_nursery() as nursery:
        await nursery.start(reader.driver.run)
        await trio.testing.wait_all_tasks_blocked()
        reader.core.deadline = due = SystemClock().now().monotonic
        reader.driver.turns.wait_until(due)
        writer.socket.send(b"%d" % number, reader.socket.address)
        while SystemClock().now().monotonic < due + 2 * LATE_SECONDS:
            pass  # stands still
        await until(lambda: reader.core.ticks)
        assert reader.core.received == [number]
        assert reader.core.handled[0].monotonic <= reader.core.ticks[0].monotonic
        nursery.cancel_scope.cancel()


async def test_a_core_that_failed_is_not_asked_again() -> None:
    async with agent() as one:
        with pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match="a bug in the core")):
            async with trio.open_nursery() as nursery:
                one.core.poison = True
                await nursery.start(one.driver.run)
                one.socket.send(b"1", one.socket.address)
                await trio.sleep(2)
        assert one.core.ticks == []


@pytest.mark.parametrize("where", ["urgent_committed", "tick"])
async def test_a_core_that_fails_when_the_disk_is_ready_fails_as_in_a_turn(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: it came out of whoever told it, a task of trio's own: all of the program ended with a TrioInternalError. So it
    did when the disk was ready after the core had failed, before the driver's end."""

    def fail(*_: object) -> bool:
        raise AssertionError("a bug in the core")

    async with agent() as one:
        with pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match="a bug in the core")):
            async with trio.open_nursery() as nursery:
                await nursery.start(one.driver.run)
                await trio.testing.wait_all_tasks_blocked()
                monkeypatch.setattr(one.core, "urgent_committed", lambda _ticket, _now: True)
                monkeypatch.setattr(one.core, where, fail)
                one.journal.on_durable(1)
                monkeypatch.undo()
                ticks = len(one.core.ticks)
                one.journal.on_durable(2)
                await trio.sleep(2)
        assert len(one.core.ticks) == ticks


async def test_a_crash_of_the_core_comes_out() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match="a bug in the core")):
        async with agent() as one, trio.open_nursery() as nursery:
            one.core.poison = True
            await nursery.start(one.driver.run)
            one.socket.send(b"1", one.socket.address)
            await trio.sleep(2)
            pytest.fail("the crash did not come out")


async def test_a_write_made_just_before_the_cancellation_is_sent_and_submitted() -> None:
    async with agent() as one:
        with await open_udp("127.0.0.1:0") as receiver:
            async with trio.open_nursery() as nursery:
                await nursery.start(one.driver.run)
                one.core.write(9, receiver.address)
                one.driver.wake()
                nursery.cancel_scope.cancel()
            assert receiver.drain() == [(b"9", one.socket.address)]
            assert one.batches == [Batch(meta={"9": b"written"})]


@pytest.mark.parametrize("steps", range(12))
async def test_it_can_be_cancelled_at_any_moment(steps: int) -> None:
    """Cancelled after each number of scheduler steps, idle or under load: it ends at once and leaves the socket to its owner."""
    async with agent(1_000) as one, agent(1_000) as two:
        with trio.fail_after(2):
            async with trio.open_nursery() as nursery:
                one.core.write(0, two.socket.address)
                nursery.start_soon(one.driver.run)
                nursery.start_soon(two.driver.run)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        assert one.socket.send(b"still open", two.socket.address)
        assert not one.batches or one.batches == [Batch(meta={"0": b"written"})]


async def test_a_driver_that_cannot_wait_says_so() -> None:
    """Its socket was closed under it: an error, never a silent end."""
    with pytest.RaisesGroup(trio.ClosedResourceError):
        async with agent() as one, trio.open_nursery() as nursery:
            await nursery.start(one.driver.run)
            await trio.testing.wait_all_tasks_blocked()
            one.socket.close()


def test_both_clocks() -> None:
    before = (time.monotonic(), time.time())
    now = SystemClock().now()
    assert before[0] <= now.monotonic <= time.monotonic()
    assert before[1] * 1e6 - 1 <= now.wall <= time.time() * 1e6 + 1


@pytest.mark.skipif(sys.platform != "linux", reason="IP_RECVERR is Linux's")
async def test_the_core_is_told_that_nobody_listens_somewhere() -> None:
    with await open_udp("127.0.0.1:0") as closed:
        gone = closed.address
    async with agent() as one, trio.open_nursery() as nursery:
        await nursery.start(one.driver.run)
        one.core.write(1, gone)
        one.driver.wake()
        await until(lambda: one.core.gone)
        assert one.core.gone == [gone]
        nursery.cancel_scope.cancel()


@pytest.mark.skipif(sys.platform != "linux", reason="IP_RECVERR is Linux's")
async def test_what_the_kernel_says_at_a_send_waits_for_no_datagram() -> None:
    """Nothing else makes the socket readable then: a crashed member's closed port was heard with the next datagram of anybody."""
    async with agent() as one, agent() as two, trio.open_nursery() as nursery:
        with await open_udp("127.0.0.1:0") as closed:
            gone = closed.address
        await nursery.start(one.driver.run)
        one.core.write(1, gone)
        one.core.write(2, two.socket.address)
        one.driver.wake()
        await until(lambda: one.core.gone)
        assert one.core.gone == [gone]
        assert len(one.core.ticks) == 2, "the core goes on with it in a turn of its own"
        nursery.cancel_scope.cancel()


async def test_what_the_disk_says_after_the_end_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: the journal is closed after the socket and writes what still waits. Its word that this is done made the driver
    send the acknowledgement, on a closed socket: the whole program ended with a TrioInternalError."""
    async with agent() as one:
        async with trio.open_nursery() as nursery:
            await nursery.start(one.driver.run)
            nursery.cancel_scope.cancel()
        with await open_udp("127.0.0.1:0") as other:
            one.core.write(3, other.address)
            monkeypatch.setattr(one.core, "urgent_committed", lambda _ticket, _now: True)
            one.socket.close()
            ticks = len(one.core.ticks)
            one.journal.on_durable(1)
            assert other.drain() == []
        assert len(one.core.ticks) == ticks
