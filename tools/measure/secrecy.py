"""What an encrypted value costs: bytes on the wire and in the state, microseconds to write and to read. In this process."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from typing import Any

import crdt
from crdt.ids import shelf_id
from crdt.types import REGISTER
from mesh.secrecy.manage import encrypt
from mesh.secrecy.vault import Vault
from mesh.trust import Authority, Directory, Identity
from mesh.wire import cbor
from mesh.wire.crypto import LIBSODIUM
from tools.measure.micro import Figures, microseconds

ROUNDS = 5
REPEATS = 2_000


def costs() -> Figures:
    """Medians of several rounds, for a 20-byte path and a float."""
    membership = Authority.generate().enrol(Identity.generate(), name="author", may_write=["**", "$keys/**"])
    directory = Directory(membership.charter)
    directory.restore(membership.statements)
    replica = crdt.Replica(
        shelf_id(membership.replica_id, 1), sign=lambda _header: bytes(64), encode=cbor.encode, decode=cbor.decode_untrusted
    )
    vault = Vault(replica, directory.mesh_id, LIBSODIUM, os.urandom)
    vault.become(membership.keys)

    def write(type_code: int, path: Any, payload: Any) -> None:
        replica.draft(type_code, path, payload, now_wall=1)

    me = membership.replica_id
    tools = {"vault": vault, "cells": replica, "directory": directory, "write": write, "entropy": os.urandom, "crypto": LIBSODIUM}
    wrap_us = microseconds(lambda: encrypt(("robots",), [], me=me, **tools), 1)  # type: ignore[arg-type]
    key = (REGISTER.code, ("robots", "r7", "battery_v"))
    sealed = vault.seal(key, 23.71, replica.shelf)
    write(*key, sealed)
    (op,) = replica.shown(key)
    (other,) = [op._replace(dot=op.dot + 1)]

    def open_first() -> None:
        vault.forget_opened()
        vault.open((op,))

    return {
        "bytes_more_per_value": len(cbor.encode(sealed)) - len(cbor.encode(23.71)),
        "seal_us": _median(lambda: vault.seal(key, 23.71, replica.shelf)),
        "open_first_us": _median(open_first),
        "open_again_us": _median(lambda: vault.open((op,))),
        "open_in_the_clear_us": _median(lambda: vault.open((other._replace(payload=23.71),))),
        "new_key_for_one_reader_us": wrap_us,
    }


def _median(call: Callable[[], object]) -> float:
    return round(statistics.median(microseconds(call, REPEATS) for _ in range(ROUNDS)), 2)
