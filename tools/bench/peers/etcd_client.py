"""Clients of etcd in a process of their own: gRPC, its native protocol, one connection to each member.

Given the leader, puts go there. Without it they go to all members in turn, so that a dead one costs one attempt only.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import os
from typing import Any

from tools.bench.commits import Clients, Done

TIMEOUT_SECONDS = 5.0


def _put_request(key: bytes, value: bytes) -> bytes:
    """etcdserverpb.PutRequest: two fields of bytes, both shorter than 128."""
    return b"\x0a" + bytes([len(key)]) + key + b"\x12" + bytes([len(value)]) + value


class Etcd:
    def __init__(self, addresses: list[str], leader: str) -> None:
        grpc = importlib.import_module("grpc")
        self._puts = [self._put_of(grpc, address) for address in ([leader] if leader else addresses)]
        self._turns = itertools.count()

    @staticmethod
    def _put_of(grpc: Any, address: str) -> Any:
        # A dead member is asked again at once when it returns; waiting would be counted against etcd.
        channel = grpc.insecure_channel(address, options=[("grpc.max_reconnect_backoff_ms", 100)])
        return channel.unary_unary("/etcdserverpb.KV/Put")

    def submit(self, done: Done) -> None:
        turn = next(self._turns)
        call = self._puts[turn % len(self._puts)].future(_put_request(b"bench/%d" % (turn % 1000), b"%d" % turn), TIMEOUT_SECONDS)
        call.add_done_callback(lambda answered: done(answered.exception() is None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", action="append", required=True)
    parser.add_argument("--leader", default="")
    arguments = parser.parse_args()

    def unknown(words: list[str]) -> None:
        raise SystemExit(f"no such line: {words}")

    Clients(Etcd(arguments.address, arguments.leader).submit).obey("etcd", unknown)
    os._exit(0)


if __name__ == "__main__":
    main()
