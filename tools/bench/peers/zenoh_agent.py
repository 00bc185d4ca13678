"""One process of zenoh: a peer in a full mesh of TCP connections, no router, no multicast, no access control, no TLS.

A write is a `put` of a declared publisher, express (not batched); the others are called back by their subscriber.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
from typing import Any

from tools.bench.peers.obey import obey
from tools.measure.notebook import Notebook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--peer", type=int, action="append", default=[])
    arguments = parser.parse_args()
    zenoh = importlib.import_module("zenoh")
    config = zenoh.Config()
    config.insert_json5("mode", '"peer"')
    config.insert_json5("listen/endpoints", json.dumps([f"tcp/127.0.0.1:{arguments.port}"]))
    config.insert_json5("connect/endpoints", json.dumps([f"tcp/127.0.0.1:{peer}" for peer in arguments.peer]))
    config.insert_json5("scouting/multicast/enabled", "false")
    name = str(arguments.port)
    notebook = Notebook(name)
    session = zenoh.open(config)

    def called_back(sample: Any) -> None:
        author = str(sample.key_expr).rpartition("/")[2]
        if author != name:
            notebook.sees(author, int(bytes(sample.payload)))

    subscriber = session.declare_subscriber("bench/*", called_back)
    publisher = session.declare_publisher(f"bench/{name}", express=True)
    obey(notebook, write=lambda number: publisher.put(str(number)), alive=lambda: len(session.info.peers_zid()) + 1)
    del subscriber
    os._exit(0)


if __name__ == "__main__":
    main()
