"""How things travel: strict CBOR, COSE signatures, deltas as bytes, sealed datagrams. Pure."""
