"""Membership: SWIM with Lifeguard, by signed claims. Pure; start reading at `mesh.swim.swim`."""

from mesh.swim.config import SwimConfig
from mesh.swim.roster import Member, State
from mesh.swim.swim import Swim

__all__ = ["Member", "State", "Swim", "SwimConfig"]
