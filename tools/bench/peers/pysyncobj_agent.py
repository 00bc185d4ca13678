"""One member of a PySyncObj quorum, with clients inside it: it is a library, its clients live in the process of a member."""

from __future__ import annotations

import argparse
import importlib
import itertools
import os
import time
from typing import Any

from tools.bench.commits import Clients, Done
from tools.measure.notebook import say


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--peer", type=int, action="append", default=[])
    parser.add_argument("--journal", required=True)
    arguments = parser.parse_args()
    pysyncobj = importlib.import_module("pysyncobj")
    batteries = importlib.import_module("pysyncobj.batteries")
    registers = batteries.ReplDict()
    me = f"127.0.0.1:{arguments.port}"
    configuration = pysyncobj.SyncObjConf(
        appendEntriesUseBatch=False,  # its documentation: faster for single requests; measured here: for 64 clients, too
        autoTickPeriod=0.01,
        appendEntriesPeriod=0.02,
        raftMinTimeout=0.1,
        raftMaxTimeout=0.3,
        connectionRetryTime=0.2,
        journalFile=arguments.journal,
    )
    node = pysyncobj.SyncObj(me, [f"127.0.0.1:{peer}" for peer in arguments.peer], configuration, consumers=[registers])
    while not node.isReady():
        time.sleep(0.02)
    turns = itertools.count()

    def submit(done: Done) -> None:
        turn = next(turns)
        registers.set(turn % 1000, turn, callback=lambda _result, error: done(error == pysyncobj.FAIL_REASON.SUCCESS))

    Clients(submit).obey(me, lambda words: _more(words, node))
    os._exit(0)


def _more(words: list[str], node: Any) -> None:
    leader = node._getLeader() if words == ["leader"] else None  # the public status dictionary costs 30 lines and a wait
    say({"leader": str(leader) if leader is not None else ""})


if __name__ == "__main__":
    main()
