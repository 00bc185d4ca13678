"""All targets by name."""

from __future__ import annotations

from typing import Final

from tools.fuzz.author import AUTHORS
from tools.fuzz.decoders import DECODERS
from tools.fuzz.evil import EVILS
from tools.fuzz.heads import HEADS
from tools.fuzz.quorum_decoders import QUORUM
from tools.fuzz.siege import SIEGES
from tools.fuzz.subject import Target

TARGETS: Final[dict[str, Target]] = {target.name: target for target in (*DECODERS, *AUTHORS, *HEADS, *SIEGES, *EVILS, *QUORUM)}
