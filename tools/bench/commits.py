"""Clients of a quorum, for whatever quorum: one at a time, many at once, and a steady stream through a change of leader.

A system brings one thing: `submit(done)`, which starts a write and calls `done(committed)` from any thread. The lines, and what
answers them:

    one SECONDS              {"one": [milliseconds, ...]}       each write begins when the one before it was committed
    many CLIENTS SECONDS     {"many": commits per second}       so many at once, each client as above
    stream                   starts a write every 10 ms, whatever became of those before
    commits                  {"commits": [[begun, committed], ...]} of the stream, microseconds of the machine's clock
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

from tools.measure.notebook import now_us, say

Done = Callable[[bool], None]
Submit = Callable[[Done], object]

STREAM_SECONDS = 0.01
WARM_UP = 50
ANSWER_SECONDS = 10.0


class Clients:
    def __init__(self, submit: Submit) -> None:
        self._submit = submit
        self._commits: list[tuple[int, int]] = []

    def one(self, seconds: float) -> list[float]:
        for _ in range(WARM_UP):
            self._wait_for_one()
        delays = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            begun = time.perf_counter()
            self._wait_for_one()
            delays.append((time.perf_counter() - begun) * 1000)
        return delays

    def _wait_for_one(self) -> None:
        answered = threading.Event()
        committed: list[bool] = []

        def done(success: bool) -> None:
            committed.append(success)
            answered.set()

        self._submit(done)
        if not answered.wait(ANSWER_SECONDS) or not committed[0]:
            raise SystemExit("a write of a healthy quorum was not committed")

    def many(self, clients: int, seconds: float) -> float:
        """Each client is a chain of callbacks, so that the clients themselves cost as little as can be."""
        count = 0
        end = time.monotonic() + seconds
        lock, ended = threading.Lock(), threading.Semaphore(0)

        def done(success: bool) -> None:
            nonlocal count
            if time.monotonic() >= end:
                ended.release()
                return
            if success:
                with lock:
                    count += 1
            self._submit(done)

        for _ in range(clients):
            self._submit(done)
        for _ in range(clients):
            ended.acquire(timeout=seconds + ANSWER_SECONDS)
        return count / seconds

    def stream(self) -> None:
        threading.Thread(target=self._stream, daemon=True).start()

    def _stream(self) -> None:
        while True:
            self._submit(self._noted(now_us()))
            time.sleep(STREAM_SECONDS)

    def _noted(self, begun: int) -> Done:
        def done(success: bool) -> None:
            if success:
                self._commits.append((begun, now_us()))

        return done

    def obey(self, name: str, more: Callable[[list[str]], object]) -> None:
        """Until `leave` or the end of standard input. Other lines go to `more`."""
        say({"ready": name})
        for line in sys.stdin:
            match line.split():
                case ["one", seconds]:
                    say({"one": self.one(float(seconds))})
                case ["many", clients, seconds]:
                    say({"many": self.many(int(clients), float(seconds))})
                case ["stream"]:
                    self.stream()
                case ["commits"]:
                    say({"commits": list(self._commits)})
                case ["leave"]:
                    return
                case words:
                    more(words)
