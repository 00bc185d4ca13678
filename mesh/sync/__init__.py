"""Dissemination: how what one agent wrote reaches all others, and how what was lost is found.

    push      a fresh delta goes from its author down a computed tree; its newest floor is repeated after the burst
    digests   one datagram says where my floors stand; buckets of them are compared when it differs
    pull      what a peer has and I lack is asked for, at my pace: deltas, else the listing of a shelf and its bodies
    serve     the other side of pull

`sync.Sync` puts them together. All of it is pure: calls in, frames out through a `Port`.
"""
