"""What a chain has, in the pieces that come, are kept on a disk, and are told to others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from consensus_escalation.block import Block
from consensus_escalation.certificate import Ack, Certificate
from consensus_escalation.machine import Outcome


@dataclass(frozen=True, slots=True)
class Done:
    """A block was applied here."""

    block: Block
    outcomes: tuple[Outcome, ...]
    """One for each entry."""


class Step(NamedTuple):
    """A change of voters, and what proves it."""

    block: Block
    certificate: Certificate


class Bundle(NamedTuple):
    """Snapshot, changes of voters and what proves them, for whoever is far behind."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which has no use here
    raw: bytes


class Proof(NamedTuple):
    """A certificate without the headers, which the log has."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which has no use here
    hash: bytes
    acks: tuple[Ack, ...]


class State(NamedTuple):
    """A snapshot that was taken or came: it stands for all blocks up to `index`."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which has no use here
    raw: bytes
    is_own: bool
    """The blocks above it go on from it."""


class Waiting(NamedTuple):
    """A certificate whose blocks are still on their way."""

    hash: bytes
    acks: tuple[Ack, ...]
    is_vouched: bool
    """A voter of today has signed for the block itself."""


class Held(NamedTuple):
    """A bundle from below the anchor, until blocks link it to that."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which has no use here
    hash: bytes
    adopt: Callable[[], None]


Kept = Step | Bundle | Proof | State
"""What the disk should have, besides the blocks."""
