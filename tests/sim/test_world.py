"""The engine: hosts, clocks, processes, the driver's loop, determinism."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mesh.effects import REST_SECONDS, Now, Transmit
from mesh.testing import SECOND, Clock, Fixed, Link, LogNormal, SimulationError, Uniform, World
from tests.sim.toy import Toy, core, facts, toy_world, write


def noisy_run(seed: int) -> tuple[str, list[set[bytes]]]:
    """A run that draws from everything: loss, duplication, reordering, a cut, a crash, a disk."""
    world = toy_world(8, seed=seed, link=Link(delay=LogNormal(5_000), loss=0.2, duplicate=0.1, reorder=0.1))
    for number in range(20):
        write(world.hosts[number % 8], b"fact %d" % number)
        world.run(0.05)
        if number == 5:
            world.network.cut({0, 1, 2}, {3, 4, 5, 6, 7})
        if number == 8:
            world.hosts[6].crash()
        if number == 12:
            world.hosts[6].start()
            world.network.heal()
    world.run(5.0)
    return world.digest, facts(world)


def test_one_seed_is_one_run() -> None:
    first, second, other = noisy_run(1), noisy_run(1), noisy_run(2)
    assert first == second
    assert first[0] != other[0]


def test_the_digest_does_not_depend_on_the_interpreters_hash_seed() -> None:
    program = "from tests.sim.test_world import noisy_run; print(noisy_run(3)[0])"
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("0", "12345")
    }
    assert digests == {noisy_run(3)[0] + "\n"}


def test_gossip_converges_through_loss_a_cut_and_a_crash() -> None:
    _, held = noisy_run(1)
    assert len(held) == 8
    assert all(one == held[0] for one in held)
    assert len(held[0]) == 20


def test_a_datagram_arrives_after_the_links_delay_on_the_receivers_own_clock() -> None:
    world = toy_world(2, link=Link(delay=Fixed(1_500)), quiet=True)
    world.run(1.0)
    core(world.hosts[0])._out.append(Transmit(world.hosts[1].address, b"hello"))
    world.hosts[0].wake()
    world.run(1.0)
    [(time, datagram)] = core(world.hosts[1]).heard
    assert (round(time, 6), datagram) == (101.0015, b"hello")


class Resting(Toy):
    """Pushes what is to be sent, and is in no hurry with the rest."""

    pushes = 0

    def may_rest(self) -> bool:
        return True

    def push(self, now: Now) -> bool:
        self.pushes += 1
        self.unsettled = self.unsettled or now
        return True

    def tick(self, now: Now) -> None:
        self.ticks += 1
        self.unsettled = None


def test_once_a_write_was_sent_the_rest_of_its_turn_rests_as_in_the_driver() -> None:
    world: World[Toy] = World(1)
    told: list[bytes] = []
    world.observers.append(lambda _host, _events, changes: told.extend(changes))
    host = world.add_host(lambda boot: Resting(boot, []))
    host.start()
    resting, turns = core(host), core(host).ticks
    assert isinstance(resting, Resting)
    for number in range(2):
        resting.write(b"%d" % number)
        host.wrote()
    world.run(0.0)
    assert (resting.pushes, told, resting.ticks) == (1, [b"0", b"1"], turns)
    assert resting.news == 1, "what is due soon may wait"
    world.run(REST_SECONDS / 2)
    host.wrote()
    world.run(REST_SECONDS / 2 - 0.001)
    assert resting.ticks == turns
    world.run(0.001)
    assert resting.ticks == turns + 1, "counted from the first"
    host.wrote()
    host.wake_soon()
    world.run(0.0)
    assert resting.ticks == turns + 2, "more was wanted"


def test_every_start_has_fresh_randomness_and_the_restored_state() -> None:
    world = toy_world(3)
    write(world.hosts[0], b"kept")
    world.run(1.0)
    first = core(world.hosts[0])._rng.getrandbits(64)
    world.hosts[0].crash()
    again = world.hosts[0].start()
    assert again.facts == {b"kept"}
    assert again._rng.getrandbits(64) != first


def test_a_crashed_process_receives_nothing_and_sends_nothing() -> None:
    world = toy_world(2)
    world.hosts[1].crash()
    world.run(1.0)
    sent = world.hosts[1].datagrams_sent
    world.run(1.0)
    assert world.hosts[1].datagrams_sent == sent
    assert world.network.dropped["nobody"] > 5
    with pytest.raises(ValueError, match="runs already"):
        world.hosts[0].start()


def test_a_paused_process_drains_its_socket_buffer_when_it_goes_on() -> None:
    world = toy_world(2, quiet=True, link=Link(delay=Fixed(1_000)))
    world.hosts[1].pause(2.0)
    for _ in range(3):
        core(world.hosts[0])._out.append(Transmit(world.hosts[1].address, b"x" * 100))
        world.hosts[0].wake()
        world.run(0.5)
    assert core(world.hosts[1]).heard == []
    world.run(1.0)
    assert [round(time, 6) for time, _ in core(world.hosts[1]).heard] == [102.0] * 3


def test_the_socket_buffer_of_a_paused_process_is_bounded() -> None:
    world = toy_world(2, quiet=True)
    world.hosts[1].pause(1.0)
    for _ in range(1_000):
        core(world.hosts[0])._out.append(Transmit(world.hosts[1].address, b"x" * 1_000))
    world.hosts[0].wake()
    world.run(2.0)
    heard = len(core(world.hosts[1]).heard)
    assert 100 < heard < 300
    assert world.network.dropped["buffer"] == 1_000 - heard


def test_a_slow_host_falls_behind_by_its_cost_per_datagram() -> None:
    world = toy_world(2, quiet=True, link=Link(delay=Fixed(0)))
    world.hosts[1].cost = 10_000
    for _ in range(5):
        core(world.hosts[0])._out.append(Transmit(world.hosts[1].address, b"x"))
        world.hosts[0].wake()
        world.run(0.001)
    world.run(1.0)
    times = [round(time - 100.0, 3) for time, _ in core(world.hosts[1]).heard]
    assert times[0] == 0.0
    assert times[1:] == [0.01] * 4


def test_a_core_whose_deadline_does_not_move_is_found() -> None:
    class Spinner(Toy):
        def tick(self, now: object) -> None:
            self.ticks += 1

    world: World[Spinner] = World(1)
    host = world.add_host(lambda boot: Spinner(boot, [boot.address]))
    host.start()
    with pytest.raises(SimulationError, match="spins") as caught:
        world.run(1.0)
    assert "seed 1" in caught.value.__notes__[0]


def test_moving_a_host_to_another_address() -> None:
    world = toy_world(2)
    write(world.hosts[0], b"one")
    world.hosts[1].move(("192.168.7.7", 4242))
    dropped = world.network.dropped
    world.run(1.0)
    assert dropped["no such address"] > 0
    assert core(world.hosts[1]).facts == {b"one"}, "it asks from its new address and is answered there"


@pytest.mark.parametrize("drift", [0.0, 100.0, -100.0, 12.345])
def test_a_deadline_is_met_at_the_first_microsecond_that_reaches_it(drift: float) -> None:
    clock = Clock(drift=drift, start=123.456789)
    for wanted in (124.0, 130.1, 1_000.123456789, 1e6 / 3):
        when = clock.when(wanted)
        assert clock.now(when).monotonic >= wanted
        assert clock.now(when - 2).monotonic < wanted


def test_a_wall_clock_jumps_and_a_monotonic_one_does_not() -> None:
    clock = Clock(skew=2.0)
    before = clock.now(SECOND)
    clock.jump(-3_600.0)
    clock.set_drift(500.0, SECOND)
    after = clock.now(SECOND)
    assert after.monotonic == pytest.approx(before.monotonic, abs=1e-9)
    assert before.wall - after.wall == 3_600 * SECOND
    assert clock.now(11 * SECOND).monotonic - after.monotonic == pytest.approx(10.005)


def test_run_until_says_whether_it_happened() -> None:
    world = toy_world(4, link=Link(delay=Uniform(1_000, 3_000)))
    write(world.hosts[0], b"news")
    assert world.run_until(lambda: all(b"news" in held for held in facts(world)), 1.0)
    assert 1_000 <= world.time <= 3_000
    assert not world.run_until(lambda: False, 0.5, every=0.1)
    with pytest.raises(ValueError, match="past"):
        world.at(0, lambda: None)
