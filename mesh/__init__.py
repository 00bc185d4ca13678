"""gossipmesh: agents share signed state over UDP, with no server."""
