"""What is fuzzed: a target makes inputs and feeds them to something that it watches."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tools.fuzz.grammar import Grammar
from tools.fuzz.material import Material, material
from tools.fuzz.mutate import Mutator

BLOCK: Final = 5_000
"""Inputs between two fresh starts of a subject: a finding is replayed from the start of its block."""


class Broken(AssertionError):
    """The program did what no input may make it do."""


class Subject(ABC):
    """Something that is fed. Any exception but those it handles itself is a finding."""

    @abstractmethod
    def feed(self, data: bytes) -> bool:
        """Whether the input was accepted. Raises Broken."""

    def finish(self) -> None:  # noqa: B027  # most subjects have nothing more to show
        """After the last input of a block: it still works. Raises Broken."""


Source = Callable[[], bytes]
"""Draws the next input."""


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    about: str
    start: Callable[[], Subject]
    source: Callable[[random.Random], Source]
    block: int = BLOCK
    weight: int = 4
    """Share of the inputs of a run over all targets."""


class Decoder(Subject):
    """A pure function of the bytes: `read` returns what it read, raises one of `refusals`, and is then judged by `check`."""

    def __init__(
        self,
        read: Callable[[bytes], object],
        refusals: tuple[type[Exception], ...],
        check: Callable[[bytes, object], None] | None = None,
    ) -> None:
        self._read = read
        self._refusals = refusals
        self._check = check

    def feed(self, data: bytes) -> bool:
        try:
            value = self._read(data)
        except self._refusals:
            return False
        if self._check is not None:
            self._check(data, value)
        return True


def mixed(
    seeds: Callable[[Material], Sequence[bytes]], sentences: Callable[[Grammar], bytes] | None = None, *, noise: float = 0.05
) -> Callable[[random.Random], Source]:
    """Mutations of what was said on a mesh, sentences of a grammar, mutated sentences, and a little plain noise."""

    def source(rng: random.Random) -> Source:
        stuff = material()
        pool = list(seeds(stuff))
        mutator = Mutator(rng, pool)

        def draw() -> bytes:
            choice = rng.random()
            if choice < noise:
                return rng.randbytes(int(rng.expovariate(1 / 40)))
            if pool and (sentences is None or choice < 0.4):
                return mutator.mutated(rng.choice(pool))
            if sentences is None:
                return rng.randbytes(rng.randrange(64))
            sentence = sentences(stuff.grammar(rng))
            return sentence if choice < 0.9 else mutator.mutated(sentence)

        return draw

    return source


def same(left: object, right: object, what: str) -> None:
    if left != right:
        raise Broken(f"{what}: {left!r:.300} is not {right!r:.300}")
