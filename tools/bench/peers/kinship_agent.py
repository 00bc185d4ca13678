"""One process of kinship. A write is a change of the member's own metadata, kinship's replicated state; the others are told by
`MemberUpdated`. The preset's defaults otherwise (`local` and `lan` are kinship's own names).
"""

from __future__ import annotations

import argparse
import importlib
import os
import threading
from typing import Any

from tools.bench.peers.obey import obey
from tools.measure.notebook import Notebook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--preset", choices=["local", "lan"], default="local")
    arguments = parser.parse_args()
    kinship = importlib.import_module("kinship")
    blocking = importlib.import_module("kinship.blocking")
    name = str(arguments.port)
    config = getattr(kinship.Config, arguments.preset)(
        name=name,
        bind=f"127.0.0.1:{arguments.port}",
        seeds=[] if arguments.seed == arguments.port else [f"127.0.0.1:{arguments.seed}"],
        **({"insecure_plaintext": True} if arguments.preset == "lan" else {}),
    )
    notebook = Notebook(name)
    cluster = blocking.Cluster(config)
    cluster.start()
    threading.Thread(target=_listen, args=(kinship, cluster, notebook), daemon=True).start()
    obey(notebook, write=lambda number: cluster.set_meta({"n": str(number)}), alive=lambda: len(cluster.members()))
    os._exit(0)  # the mesh of processes is taken down as a whole: nobody needs to be told


def _listen(kinship: Any, cluster: Any, notebook: Notebook) -> None:
    kinds = {kinship.MemberDead: "MemberDown", kinship.MemberSuspect: "MemberSuspected"}
    for event in cluster.events():
        if isinstance(event, kinship.MemberUpdated):
            notebook.sees(event.member.name, int(event.member.meta["n"]))
        elif type(event) in kinds:
            notebook.hears(kinds[type(event)], event.member.name)


if __name__ == "__main__":
    main()
