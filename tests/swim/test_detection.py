"""A crash is known to all soon, and nobody who lives is buried: detection and Lifeguard, as the users of a mesh see them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import inf

from crdt.ids import ReplicaId
from mesh.effects import COURTESY_SECONDS, Now
from mesh.events import MemberDown, MemberSuspected, MemberUp
from mesh.presets import LAN, LOCAL
from mesh.swim.claims import Reason
from mesh.swim.roster import State
from mesh.wire.frames import Frame
from tests.swim.harness import Mesh, replica
from tests.swim.soak import Soak

SWIM = LAN.swim
PROBE_SECONDS = 0.15
"""What a probe takes that fails where nothing is lost: 50 ms directly and in each round of witnesses, who all say nack."""
SPREAD_SECONDS = 0.1


def settled(size: int, **options: float) -> Mesh:
    mesh = Mesh(size, **options)  # type: ignore[arg-type]
    mesh.settle()
    mesh.run(3.0)
    return mesh


def test_a_crash_is_known_to_all_within_two_intervals_a_probe_and_the_shortest_suspicion() -> None:
    mesh = settled(16)
    for victim in (3, 8, 15):
        crashed = mesh.crash(victim)
        mesh.run_until(lambda victim=victim: mesh.all_see(victim, State.DEAD), 10.0)  # type: ignore[misc]
        limit = 2 * SWIM.probe_interval_seconds + PROBE_SECONDS + SWIM.suspicion_min_seconds + SPREAD_SECONDS
        assert SWIM.suspicion_min_seconds < mesh.time - crashed < limit
        mesh.start(victim, incarnation=1)
        mesh.settle()
        mesh.run(2.0)


def test_news_puts_each_probe_off_once_within_its_round_and_a_crash_is_found_all_the_same() -> None:
    """Where news never ends, a probe that waits for each of them is never sent."""
    mesh = settled(8)
    seen = Counter[bool]()
    late: set[tuple[int, float]] = set()

    def pass_with_news() -> None:
        for agent in mesh.running:
            swim, due = agent.swim, agent.swim._next_probe
            waits = swim.put_off(agent.now())
            later = due + COURTESY_SECONDS
            assert swim._next_probe == (later if waits else due)
            assert not (waits and (agent.number, due) in late), "twice"
            if waits:
                late.add((agent.number, later))
            if waits or due < mesh.time + 0.001:
                seen[swim._order.are_of_one_round(due, later)] += 1
                assert not waits or swim._order.are_of_one_round(due, later)
        mesh.run(0.001)

    for _ in range(5_000):
        pass_with_news()
    assert seen[True] > 100
    assert seen[False] > 0, "else nothing was seen of the end of a round"
    crashed = mesh.crash(5)
    while not mesh.all_see(5, State.DEAD):
        pass_with_news()
        limit = 2 * SWIM.probe_interval_seconds + PROBE_SECONDS + SWIM.suspicion_min_seconds + SPREAD_SECONDS
        assert mesh.time - crashed < limit


def test_a_crash_is_told_as_suspected_then_down_by_two_accusers_at_least() -> None:
    mesh = settled(8)
    mesh.crash(5)
    mesh.run_until(lambda: mesh.all_see(5, State.DEAD), 10.0)
    for agent in mesh.running:
        told = [
            event for _, event in agent.events if isinstance(event, MemberSuspected | MemberDown) and event.replica == replica(5)
        ]
        assert [type(event) for event in told] == [MemberSuspected, MemberDown]
        assert isinstance(told[1], MemberDown)
        assert len(told[1].accusers) >= 2


def test_two_members_need_no_second_accuser() -> None:
    mesh = settled(2)
    crashed = mesh.crash(1)
    mesh.run_until(lambda: mesh.all_see(1, State.DEAD), 10.0)
    assert mesh.time - crashed < 3.0


def test_the_last_one_of_five_understands_that_it_is_alone() -> None:
    """Nobody is left who could be the second accuser."""
    mesh = settled(5)
    for number in (1, 2, 3, 4):
        mesh.crash(number)
    mesh.run_until(lambda: all(mesh.state(0, number) is State.DEAD for number in (1, 2, 3, 4)), 20.0)


def test_refusals_of_the_machine_hasten_and_a_lie_about_them_does_not_bury() -> None:
    """ICMP port unreachable: a process that is gone is found in half a second, and one that is there refutes."""
    mesh = settled(8)

    def report(victim: int, seconds: float) -> None:
        for _ in range(int(seconds / 0.01)):
            for agent in mesh.running:
                if agent.number != victim and mesh.state(agent.number, victim) is not State.DEAD:
                    mesh.do(agent.number, lambda swim, now: swim.refused(mesh.agents[victim].address, now))
            mesh.run(0.01)

    crashed = mesh.crash(5)
    report(5, 0.9)
    assert mesh.all_see(5, State.DEAD)
    downs = [time - crashed for time, _, event in mesh.events_of(MemberDown) if time > crashed]
    assert max(downs) < 0.9 < SWIM.suspicion_min_seconds
    report(6, 5.0)
    assert not mesh.false_deaths()


def test_a_refusal_of_anything_begins_a_probe() -> None:
    """A machine says once for each datagram that nobody listens, and only probes under way took note: what other traffic brought
    to light was forgotten, and a probe whose ping had to wait for a handshake under way never heard of it."""
    mesh = settled(8)
    crashed, told = mesh.crash(5), mesh.agents[5].address
    for number in (1, 2):
        assert not mesh.agents[number].swim._prober.is_probing(replica(5))
        mesh.do(number, lambda swim, now: swim.refused(told, now))
        assert mesh.agents[number].swim._prober.is_probing(replica(5))
    mesh.run_until(lambda: mesh.all_see(5, State.DEAD), 2.0)
    assert mesh.time - crashed < 2 * PROBE_SECONDS + SWIM.suspicion_refused_seconds
    (reasons,) = {
        tuple(sorted(signed.claim.reason for signed in record.accusations.values()))[-2:]  # type: ignore[union-attr]
        for agent in mesh.running
        if (record := agent.swim._roster.get(replica(5))) is not None
    }
    assert reasons == (Reason.REFUSED, Reason.REFUSED)


def test_forged_refusals_make_few_probes() -> None:
    mesh = settled(8)
    before = mesh.agents[1].swim.counters["probes"]
    for _ in range(100):
        mesh.do(1, lambda swim, now: swim.refused(mesh.agents[5].address, now))
        mesh.do(1, lambda swim, now: swim.refused(("10.9.9.9", 7946), now))  # where nobody lives
        mesh.run(0.03)
    assert mesh.agents[1].swim.counters["probes"] - before <= 2.5 * 3.0 / SWIM.probe_interval_seconds
    assert not mesh.events_of(MemberDown)


def test_a_mesh_is_in_step_although_members_come_and_go() -> None:
    """Each start used to name a round of its own, and half of them dragged the mesh there, a member at a time: a crash in those
    seconds was probed by luck, after up to a second."""
    mesh = settled(32)
    found = []
    for victim in (3, 8, 15, 20, 27, 30):
        crashed, process = mesh.crash(victim), mesh.agents[victim]
        mesh.run_until(lambda victim=victim: mesh.all_see(victim, State.DEAD), 10.0)  # type: ignore[misc]
        found.append(mesh.time - crashed)
        mesh.start(victim, incarnation=process.swim.incarnation, known=process.swim.snapshot())
        mesh.run(1.0)
    assert max(found) < 2 * SWIM.probe_interval_seconds + PROBE_SECONDS + SWIM.suspicion_min_seconds + SPREAD_SECONDS


def test_local_finds_the_silent_within_its_goals_and_bears_short_stalls() -> None:
    mesh = Mesh(24, seed=5, loss=0.1, config=LOCAL.swim)
    mesh.settle(60.0)
    report = Soak(mesh, stalling=0.1, stall_max=0.4, crashes=True, seed=5).run(120.0)
    assert not report.false_deaths
    assert report.stalls >= 10
    assert report.suspicions_of_living > 0  # it was not too easy
    assert len(report.detections) >= 3
    assert max(report.detections) < 1.5


def test_one_bad_link_accuses_nobody() -> None:
    """Witnesses answer for a member that only one other cannot reach."""
    mesh = settled(8)
    mesh.network.blocked = {(1, 2), (2, 1)}
    mesh.run(60.0)
    assert not mesh.events_of(MemberSuspected)
    assert mesh.agents[1].swim.counters["vouched"] > 10


def test_a_member_that_hears_nobody_holds_its_tongue() -> None:
    """consul#5928: one half-detached node must not start a storm. It can send; nothing reaches it."""
    mesh = settled(16)
    mesh.network.blocked = {(number, 7) for number in range(16) if number != 7}
    before = mesh.agents[7].swim.counters.copy()
    mesh.run(30.0)
    assert not [event for _, _, event in mesh.events_of(MemberDown) if event.replica != replica(7)] or all(  # type: ignore[attr-defined]
        number == 7
        for _, number, event in mesh.events_of(MemberDown)
        if event.replica != replica(7)  # type: ignore[attr-defined]
    )
    refutations = sum(agent.swim.counters["refutations"] for agent in mesh.running if agent.number != 7)
    assert refutations <= 10
    assert mesh.agents[7].swim.counters["probes"] - before["probes"] < 60  # its probes slow down: Lifeguard
    mesh.network.blocked = set()
    assert mesh.settle(10.0) < 5.0


def test_a_stalled_member_is_not_buried_and_accuses_nobody_afterwards() -> None:
    mesh = settled(16)
    for _ in range(10):
        mesh.stall(4, 0.95)
        mesh.run(3.0)
    assert not mesh.false_deaths()
    suspected = {event.replica for _, _, event in mesh.events_of(MemberSuspected) if isinstance(event, MemberSuspected)}
    assert suspected == {replica(4)}  # others had doubts; it had none about others
    assert mesh.agents[4].swim.counters["stalls"] >= 5  # in the others nothing of its own was due
    assert mesh.all_alive()


def test_time_that_a_process_stood_still_is_no_round_trip() -> None:
    """Found by `mesh sim --soak`: a process was paused while its ping was under way, and then waited for lost answers for four
    times the 10 s that the pong had lain in its socket."""
    mesh = settled(8)
    prober, seconds = mesh.agents[4].swim._prober, 10.0
    for _ in range(5):
        mesh.run_until(lambda: bool(prober._probes), 2.0, step=0.0001)
        assert prober._probes
        mesh.stall(4, seconds)
        mesh.run(seconds + 3.0)
    assert mesh.agents[4].swim.counters["stalls"] >= 5
    assert max(mesh.agents[4].swim.round_trip(replica(number)) for number in range(8) if number != 4) < 0.01
    mesh.stall(4, seconds)
    mesh.run(seconds - 0.01)
    mesh.agents[4].stalled_until = mesh.time
    mesh.do(4, lambda swim, now: swim.session_opened(replica(5), now, seconds))  # asked before, answered meanwhile
    assert mesh.agents[4].swim.round_trip(replica(5)) < 0.01


def test_a_suspect_is_asked_twice_before_it_is_buried() -> None:
    """Found by `mesh sim --scenario four-hours`: an agent missed the refutation of a member that had stalled, and the answer to
    the one question that it asked at the end."""
    mesh = settled(16)
    asked: dict[int, list[float]] = {}
    for agent in mesh.agents.values():
        beliefs = agent.swim._beliefs

        def ask(
            peer: ReplicaId, now: Now, number: int = agent.number, ask: Callable[[ReplicaId, Now], None] = beliefs._ask
        ) -> None:
            asked.setdefault(number, []).append(mesh.time)
            ask(peer, now)

        beliefs._ask = ask
    mesh.crash(4)
    mesh.run(6.0)
    buried = {number: time for time, number, event in mesh.events_of(MemberDown)}
    assert set(buried) == set(asked) == set(range(16)) - {4}
    for number, times in asked.items():
        first, second = (buried[number] - time for time in times)
        assert 0.2 > first > 1.5 * second > 0.03  # time enough for an answer


def test_the_suspect_hears_of_its_suspicion_from_the_next_ping() -> None:
    """Lifeguard's buddy system: gossip does not reach it, its prober does."""
    mesh = settled(6)
    mesh.stall(4, 0.6)
    mesh.run_until(lambda: mesh.state(0, 4) is State.SUSPECT or mesh.agents[4].stalled_until <= mesh.time, 2.0)
    assert mesh.state(0, 4) is State.SUSPECT
    mesh.run(0.6)
    refuted = mesh.agents[4].swim.counters["refutations"]
    mesh.run(0.5)
    assert refuted == 1
    assert all(mesh.state(number, 4) is State.ALIVE for number in range(6) if number != 4)


def test_a_slow_agent_stretches_its_intervals_and_timeouts() -> None:
    mesh = settled(8)
    agent = mesh.agents[3]
    agent.swim.health.worse(7)
    before = agent.swim.counters["probes"]
    mesh.run(2 * SWIM.probe_interval_seconds)
    assert agent.swim.counters["probes"] - before <= 1  # and not two
    mesh.run(20.0)
    assert agent.swim.health.factor == 1  # answered probes brought it back


def test_witnesses_say_nack_before_the_prober_stops_waiting() -> None:
    mesh = settled(8)
    mesh.crash(2)
    mesh.run_until(lambda: bool(mesh.frames[Frame.NACK]), 2.0)
    assert all(agent.swim.health.factor == 1 for agent in mesh.running)  # nobody blames itself


def test_no_false_death_under_loss_and_stalls_and_crashes_are_still_found() -> None:
    """The bounded form of `python -m tests.swim.soak`."""
    mesh = Mesh(24, seed=5, loss=0.1)
    mesh.settle(60.0)
    report = Soak(mesh, stalling=0.1, stall_max=1.0, crashes=True, seed=5).run(90.0)
    assert not report.false_deaths
    assert report.stalls >= 5
    assert report.suspicions_of_living > 0  # it was not too easy
    assert report.detections
    assert max(report.detections) < 4.0


def test_the_price_does_not_grow_with_the_mesh() -> None:
    def idle(size: int) -> float:
        mesh = settled(size)
        mesh.run(0.25 * 2 * size)  # everybody has met everybody: sessions are open
        return mesh.bytes_per_second(5.0)

    small, large = idle(8), idle(32)
    assert large < 600
    assert large < 1.1 * small


def test_the_deadline_never_lies_behind() -> None:
    """A driver that sleeps until the deadline would spin."""
    mesh = settled(4)
    for agent in mesh.running:
        assert mesh.time < agent.swim.deadline < inf


def test_it_is_up_again_after_its_word() -> None:
    mesh = settled(6)
    mesh.stall(4, 0.8)
    mesh.run(3.0)
    told = [type(event) for _, event in mesh.agents[0].events if getattr(event, "replica", None) == replica(4)]
    assert told in ([MemberUp], [MemberUp, MemberSuspected, MemberUp])
