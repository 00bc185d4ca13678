"""What this agent says of itself, and when it has to say it again.

    accused under my incarnation i           -> Alive i + 1, naming the accusation
    my own claim of an earlier start, at j   -> Alive j + 1, naming that claim: so an agent that lost its disk comes back at once
    a claim under my name that names one of *this start's* claims
                                             -> another living agent has my identity (`Conflict`)

The last line is a proof: only who was alive after my claim can name it. Both sides say it once more, so that the other one
learns of it too, and then hold their tongue: a quarrel that goes on for ever would only be noise to all others.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from crdt.ids import ReplicaId
from mesh.effects import Address
from mesh.swim.claims import INCARNATION_MAX, Alive, Left, Sign, Signed, seal

ISSUED_MAX: Final = 64
"""Own claims remembered by id."""


class Myself:
    def __init__(
        self, replica: ReplicaId, birth: int, incarnation: int, address: Address, name: str, meta: bytes, sign: Sign
    ) -> None:
        self.replica, self.birth, self.incarnation = replica, birth, incarnation
        self.address, self.name, self.meta = address, name, meta
        self.left: Signed | None = None
        self.contested = False
        """Another living agent uses this identity."""
        self._sign = sign
        self._issued: OrderedDict[bytes, None] = OrderedDict()
        self.claim = self._say(b"")

    def announce(self, *, over: bytes = b"", above: int | None = None) -> Signed:
        """A new Alive claim, one above `above` or, by default, above the last one."""
        base = self.incarnation if above is None else above
        self.incarnation = min(max(base, self.incarnation) + 1, INCARNATION_MAX)
        self.claim = self._say(over)
        return self.claim

    def leave(self) -> Signed:
        self.left = seal(Left(self.replica, self.incarnation, self.birth), self._sign)
        return self.left

    @property
    def newest(self) -> Signed:
        return self.left or self.claim

    def has_said(self, claim_id: bytes) -> bool:
        """In this start."""
        return claim_id in self._issued

    def is_proof_of_another(self, claim: Alive) -> bool:
        """Somebody else speaks in my name, and did so after I had spoken."""
        return claim.birth != self.birth and claim.over in self._issued

    def must_answer(self, claim: Alive | Left) -> bool:
        """A claim in my name, not made by this start, that others would prefer to mine."""
        if claim.incarnation != self.incarnation:
            return claim.incarnation > self.incarnation
        if isinstance(claim, Left):
            return self.left is None
        mine = self.claim.claim
        return isinstance(mine, Alive) and claim[2:] > mine[2:]

    def _say(self, over: bytes) -> Signed:
        claim = seal(Alive(self.replica, self.incarnation, self.birth, self.address, self.name, self.meta, over), self._sign)
        self._issued[claim.id] = None
        while len(self._issued) > ISSUED_MAX:
            self._issued.popitem(last=False)
        return claim
