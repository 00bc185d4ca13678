"""Random runs under loss, reordering, duplication, partitions and crashes at every write; then calm, and it must work.

`python -m tests.consensus.storm [runs] [first seed]` for a long run; a failure prints its seed.
"""

from __future__ import annotations

import sys
from collections import Counter
from heapq import heappop, heappush
from itertools import count
from math import inf

from consensus_escalation.effects import Persist, Read, Received, Standby, Tick
from consensus_escalation.messages import Message
from consensus_escalation.types import Pace, Voter
from tests.consensus.cluster import Cluster, Machine

DELAY_SECONDS = 0.002
FSYNC_SECONDS = 0.001


class Storm(Cluster):
    """A cluster in virtual time: messages and writes take random times, and faults happen until `calm`."""

    def __init__(self, size: int, seed: int, *, pace: Pace | None = None, voters: int | None = None) -> None:
        self._events: list[tuple[float, int, str, tuple[object, ...]]] = []
        self._order = count()
        self.is_calm = False
        self.loss, self.crash_at_write = 0.0, 0.0
        super().__init__(size, seed=seed, pace=pace, voters=voters)
        self.loss = self.rng.choice([0, 0.02, 0.1, 0.3])
        self.crash_at_write = self.rng.choice([0, 0.002, 0.02])
        self.happened: Counter[str] = Counter()
        self.judge = lambda _machine, _proposal: "a coin" if self.rng.random() < 0.3 else ""
        for machine in self.machines.values():
            self.stepped(machine)

    def _at(self, seconds: float, kind: str, *what: object) -> None:
        heappush(self._events, (self.time + seconds, next(self._order), kind, what))

    def transmit(self, sender: Machine, to: Voter, message: Message) -> None:
        if not self.is_calm and self.rng.random() < self.loss:
            return
        for _ in range(2 if not self.is_calm and self.rng.random() < 0.02 else 1):
            slow = 20 if not self.is_calm and self.rng.random() < 0.05 else 1
            self._at(self.rng.expovariate(1 / DELAY_SECONDS) * slow, "message", sender.me, to, message)

    def writing(self, machine: Machine, persist: Persist) -> None:
        self._at(self.rng.expovariate(1 / FSYNC_SECONDS), "written", machine, persist)

    def stepped(self, machine: Machine) -> None:
        if machine.raft is not None and machine.raft.deadline < machine.wakes_at:
            machine.wakes_at = machine.raft.deadline
            self._at(max(0.0005, machine.raft.deadline - self.time), "tick", machine, machine.raft)

    def run(self, seconds: float) -> None:
        end = self.time + seconds
        while self._events and self._events[0][0] <= end:
            self.time, _, kind, what = heappop(self._events)
            self._happen(kind, what)
        self.time = end

    def advance(self, seconds: float) -> None:
        self.run(seconds)

    def _happen(self, kind: str, what: tuple[object, ...]) -> None:
        match kind, what:
            case "message", (sender, to, message):
                if not self.lost(sender, to, message):  # type: ignore[arg-type]
                    self.machines[to].step(Received(sender, message))  # type: ignore[arg-type, index]
            case "written", (Machine() as machine, Persist() as persist):
                self._written(machine, persist)
            case "tick", (Machine() as machine, raft) if machine.raft is raft:
                machine.wakes_at = inf
                machine.step(Tick())
            case "restart", (Machine() as machine,) if machine.raft is None:
                machine.start()
                self.stepped(machine)
            case _:
                pass

    def _written(self, machine: Machine, persist: Persist) -> None:
        """A crash at a write comes before it or after it: both happen, and nothing that waited for it leaves."""
        if machine.stream and machine.stream[0] is persist:
            if not self.is_calm and self.rng.random() < self.crash_at_write:
                if self.rng.random() < 0.5:
                    machine.disk.write(persist)
                self.kill(machine)
            else:
                machine.write_done(persist)

    def kill(self, machine: Machine) -> None:
        self.happened["crashes"] += 1
        machine.crash()
        self._at(self.rng.uniform(0.01, 1.0), "restart", machine)

    def faults(self) -> None:
        """One thing goes wrong."""
        match self.rng.randrange(6):
            case 0:
                machine = self.rng.choice(list(self.machines.values()))
                if machine.raft is not None:
                    self.kill(machine)
            case 1:
                self.cut_off(*self.rng.sample(range(1, len(self.names) + 1), self.rng.randint(1, len(self.names) - 1)))
                self.happened["partitions"] += 1
            case 2:
                deaf = self.rng.choice(self.names)
                self.lost = lambda _sender, to, _message: to == deaf
                self.happened["one-way cuts"] += 1
            case _:
                self.heal()

    def work(self) -> None:
        reader, number = self.rng.choice(list(self.machines.values())), self.rng.getrandbits(60)
        self.witness.asks(number)
        reader.step(Read(number))
        for machine in self.machines.values():
            machine.step(Standby(tuple(self.names)))
            if machine.raft is not None and machine.raft.leader == machine.me:
                for _ in range(self.rng.choice([1, 1, 5, 60])):
                    danger = "danger " if self.rng.random() < 0.02 else ""
                    self.submit(machine, f"{danger}{self.rng.getrandbits(32)}")

    def live(self, rounds: int) -> None:
        """Faults and work, then calm: within two seconds there is a leader, and a new entry reaches everybody."""
        for _ in range(rounds):
            self.faults()
            self.work()
            self.run(self.rng.choice([0.02, 0.1, 0.4]))
        self.is_calm = True
        self.heal()
        self.run(3.0)
        leader = self.leader()
        assert leader is not None, "no leader two seconds after everything was well"
        self.submit(leader, "the end")
        self.run(0.5)
        for machine in self.machines.values():
            self.witness.prove(self)
            assert not self.witness.certificates, "a certificate that nobody can verify"
            assert self.texts(machine)[-1:] == ["the end"], "a voter lags behind in calm"


def one(seed: int, rounds: int = 40) -> Storm:
    """Sizes, early snapshots and growth from one voter take turns."""
    pace = Pace(snapshot_blocks=30 if seed % 3 == 0 else 4096)
    storm = Storm(3 if seed % 2 else 5, seed, pace=pace, voters=1 if seed % 4 == 0 else None)
    try:
        storm.live(rounds)
    except BaseException:
        print(f"storm: python -m tests.consensus.storm 1 {seed}")
        raise
    return storm


def main() -> None:
    runs, first = (int(argument) for argument in [*sys.argv[1:], "100", "1"][:2]) if len(sys.argv) != 2 else (int(sys.argv[1]), 1)
    total: Counter[str] = Counter()
    for seed in range(first, first + runs):
        storm = one(seed)
        total.update(storm.happened)
        total.update(storm.witness.counts)
    print(f"{runs} runs: {dict(total)}")


if __name__ == "__main__":
    main()
