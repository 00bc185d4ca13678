"""Three voters as real processes with disks, killed with -9 and frozen with SIGSTOP; what all of them saw must be linearizable.

`python -m tests.node.critical_storm [seconds] [seed]` for a long run.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from math import inf
from pathlib import Path
from typing import Any

import mesh
from mesh.testing.linearizable import DONE, UNKNOWN, Mismatch, Operation, Violation, check
from mesh.trust.files import save_membership

VOTERS = 3
START_SECONDS_MAX = 60.0
WORK_MIN = 10
"""Operations of each voter, before anything goes wrong."""


class Process:
    """One voter; its output is read by a thread of its own, so that it never waits for us."""

    def __init__(self, words: list[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.node.critical_client", *words], stdout=subprocess.PIPE, text=True
        )
        self.said: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):
                self.said.append(json.loads(line))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Storm:
    def __init__(self, directory: Path, seed: int) -> None:
        self._rng = random.Random(seed)
        authority = mesh.Authority.generate(critical=["tasks/**"])
        ports = free_ports(VOTERS)
        binds = [f"127.0.0.1:{port}" for port in ports]
        self._words: list[list[str]] = []
        for number, bind in enumerate(binds):
            home = directory / str(number)
            membership = authority.enrol(mesh.Identity.generate(), name=f"v{number}", may_write=["**"], voter=True, score=number)
            save_membership(home, membership)
            self._words.append([str(home), bind, "", *binds[:number], *binds[number + 1 :]])
        self._lives: list[tuple[int, Process]] = []
        self._running: dict[int, Process] = {}
        self.happened: Counter[str] = Counter()

    def start(self, number: int) -> None:
        words = list(self._words[number])
        words[2] = f"{number} {len(self._lives)} {self._rng.random()}"
        self._running[number] = process = Process(words)
        self._lives.append((number, process))

    def play(self, seconds: float) -> None:
        for number in range(VOTERS):
            self.start(number)
        self._wait_for_work()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            number = self._rng.randrange(VOTERS)
            if self._rng.random() < 0.5:
                self.happened["kill -9"] += 1
                self._running.pop(number).kill()
                time.sleep(self._rng.uniform(0.05, 0.6))
                self.start(number)
            else:
                self.happened["SIGSTOP"] += 1
                self._running[number].process.send_signal(signal.SIGSTOP)
                time.sleep(self._rng.uniform(0.05, 0.8))
                self._running[number].process.send_signal(signal.SIGCONT)
            time.sleep(self._rng.uniform(0.2, 1.0))
        time.sleep(1.0)

    def _wait_for_work(self) -> None:
        """Until all of them do something: a busy machine takes its time to start three processes."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while any(sum("returned" in each for each in process.said) < WORK_MIN for process in self._running.values()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the voters did not begin within {START_SECONDS_MAX:.0f} s")
            time.sleep(0.05)

    def stop(self) -> None:
        for process in self._running.values():
            process.process.send_signal(signal.SIGCONT)
            process.kill()
        self._running.clear()

    def history(self) -> list[Operation]:
        found = []
        for number, process in self._lives:
            ends = {each["number"]: each for each in process.said if "returned" in each}
            for each in process.said:
                if "called" in each:
                    operation = Operation(
                        number, each["path"], each["kind"], each["called"], inf, each["value"], each["expected"], UNKNOWN
                    )
                    found += self._ended(operation, ends.get(each["number"]))
        return found

    @staticmethod
    def _ended(operation: Operation, end: dict[str, Any] | None) -> list[Operation]:
        match end and end["result"]:
            case None | "unknown":
                return [operation]
            case "refused":
                return []
            case "done":
                return [operation._replace(returned=end["returned"], result=DONE)]  # type: ignore[index]
            case ["mismatch", value]:
                return [operation._replace(returned=end["returned"], result=Mismatch(value))]  # type: ignore[index]
            case ["value", value]:
                return [operation._replace(returned=end["returned"], result=value)]  # type: ignore[index]
            case _:
                raise ValueError(f"{end} is no answer")


def run(seconds: float, seed: int) -> tuple[list[Violation], Counter[str]]:
    with tempfile.TemporaryDirectory(prefix="critical-storm-") as directory:
        storm = Storm(Path(directory), seed)
        try:
            storm.play(seconds)
        finally:
            storm.stop()
        history = storm.history()
    counts = Counter(storm.happened)
    counts.update(each.kind for each in history)
    counts["unknown"] = sum(each.returned == inf for each in history)
    return check(history), counts


def main() -> None:
    seconds, seed = float([*sys.argv, "60"][1]), int([*sys.argv, "60", "1"][2]) if len(sys.argv) > 2 else 1
    violations, counts = run(seconds, seed)
    for violation in violations:
        print(violation)
    print(f"seed {seed}, {seconds:g} s: {dict(counts)}: {'NOT linearizable' if violations else 'linearizable'}")
    sys.exit(bool(violations))


if __name__ == "__main__":
    main()
