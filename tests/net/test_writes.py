"""What the loop does for a write that was made here, over real loopback sockets."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from mesh.effects import REST_SECONDS, Now
from mesh.errors import NodeClosed
from mesh.net.clock import SystemClock
from mesh.nursery import open_plain_nursery
from mesh.store.rows import Batch
from tests.net.agents import agent, until, writing


async def test_once_a_write_was_sent_and_told_the_rest_of_its_turn_rests() -> None:
    """Its book-keeping took a core just when those who received it needed one."""
    async with writing() as (writer, receiver):
        turns = len(writer.core.ticks)
        for number in (1, 2):
            writer.core.draft(number, receiver.address)
            writer.driver.wrote()
            assert receiver.drain() == []
            await trio.testing.wait_all_tasks_blocked()
            assert [datagram for datagram, _ in receiver.drain()] == [b"%d" % number]
            assert writer.changes == [(1, (str(each),)) for each in range(1, number + 1)]
        assert len(writer.core.ticks) == turns, "the turn came before its time"
        assert writer.batches == []
        writer.driver.wake()
        await trio.testing.wait_all_tasks_blocked()
        assert len(writer.core.ticks) == turns + 1
        assert writer.batches == [Batch(meta=dict.fromkeys("12", b"written"))]


async def test_what_rests_after_a_write_is_settled_soon_also_of_who_writes_on() -> None:
    async with writing(REST_SECONDS) as (writer, receiver):
        turns = len(writer.core.ticks)
        began = SystemClock().now().monotonic
        number = 0
        while len(writer.core.ticks) == turns:
            writer.core.draft(number := number + 1, receiver.address)
            writer.driver.wrote()
            await trio.sleep(0.01)
        assert writer.core.ticks[-1].monotonic - began >= REST_SECONDS * 0.9
        assert len(receiver.drain()) > 1


async def test_a_write_that_is_sent_puts_off_what_is_due_soon() -> None:
    async with writing() as (writer, receiver):
        for number, seconds in enumerate((3600.0, 0.0)):
            writer.core.draft(number, receiver.address)
            writer.driver.turns.due = SystemClock().now().monotonic + seconds
            writer.driver.turns.woken()
            assert (len(receiver.drain()), writer.core.news) == (1, number)


@pytest.mark.parametrize("first", ["wake", "wrote"])
async def test_who_wants_more_than_a_write_sent_has_a_whole_turn(first: str) -> None:
    """In whichever order both are called for in one step."""
    async with writing() as (writer, receiver):
        calls = [writer.driver.wake, writer.driver.wrote]
        for number, call in enumerate(calls if first == "wake" else calls[::-1]):
            writer.core.draft(number, receiver.address)
            call()
        await trio.testing.wait_all_tasks_blocked()
        assert writer.batches == [Batch(meta=dict.fromkeys("01", b"written"))]
        assert len(receiver.drain()) == 2


async def test_a_core_that_may_not_rest_has_a_whole_turn_for_a_write() -> None:
    """One with a disk: what it wrote is to be there soon."""
    async with writing(may_rest=False) as (writer, receiver):
        writer.core.draft(1, receiver.address)
        writer.driver.wrote()
        await trio.testing.wait_all_tasks_blocked()
        assert writer.batches == [Batch(meta={"1": b"written"})]


async def test_a_write_that_waits_for_company_is_sent_when_it_is_due() -> None:
    async with writing() as (writer, receiver):
        writer.core.push_at = due = SystemClock().now().monotonic + 0.1
        writer.core.draft(1, receiver.address)
        writer.driver.wrote()
        await trio.testing.wait_all_tasks_blocked()
        assert writer.changes == [(1, ("1",))], "it shows here at once"
        assert receiver.drain() == []
        await until(receiver.drain)
        assert SystemClock().now().monotonic >= due


async def test_a_core_that_fails_at_a_write_is_not_asked_again() -> None:
    async with agent() as writer:

        def fails(now: Now) -> bool:
            raise AssertionError("a bug in the core")

        async def runs() -> None:
            async with open_plain_nursery() as nursery:
                await nursery.start(writer.driver.run)
                await trio.testing.wait_all_tasks_blocked()
                writer.core.push = fails  # type: ignore[method-assign]  # a core with a bug
                writer.driver.wrote()

        with pytest.raises(AssertionError, match="a bug in the core"):
            await runs()
        with pytest.raises(NodeClosed):
            writer.driver.turn()
