"""Membership: SWIM with Lifeguard, by signed claims. Pure; start reading at `mesh.swim.swim`."""
