"""A measured agent: a real node in a process of its own. It obeys lines on standard input and answers with lines of
JSON.

    write N               set bench/<name> to N and note the time; with --critical, have a majority agree on it
    fill KEYS PREFIX      write KEYS registers below a prefix, in one burst
    voters | keys | digest | report | leave
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext

import trio

import mesh
from mesh.events import Changed, MemberEvent
from tools.fleet import add_arguments, node_config
from tools.garbage import collect_rarely
from tools.measure.notebook import Notebook, now_us, say
from tools.measure.orders import Orders


class Agent:
    def __init__(self, node: mesh.Node, name: str, *, critical: bool, watch: bool) -> None:
        self._node = node
        self._name = name
        self._notebook = Notebook(name)
        self._critical, self._has_task = critical, critical or watch
        self._nursery: trio.Nursery

    async def run(self) -> None:
        async with trio.open_nursery() as self._nursery:
            nursery = self._nursery
            if self._has_task:
                await nursery.start(self._watch)
            await nursery.start(self._watch_events)
            with nullcontext() if self._has_task else self._node.listen("bench/", self._sees):
                say({"ready": self._name})
                await self._obey()
            nursery.cancel_scope.cancel()

    async def _watch(self, task_status: trio.TaskStatus[None]) -> None:
        async with self._node.watch("bench/") as changes:
            task_status.started()
            async for change in changes:
                if self._critical and isinstance(change, Changed) and change.dot is not None:
                    await self._node._clerk.proven(change.dot.seq)  # a voter shows it as soon as it is committed
                self._sees(change)

    def _sees(self, change: mesh.Change) -> None:
        if isinstance(change, Changed):
            self._notebook.sees(change.path.partition("/")[2], change.value)

    async def _watch_events(self, task_status: trio.TaskStatus[None]) -> None:
        async with self._node.events() as events:
            task_status.started()
            async for event in events:
                if isinstance(event, MemberEvent):
                    self._notebook.hears(type(event).__name__, event.name)

    async def _obey(self) -> None:
        async for line in Orders():
            match line.split():
                case ["write", number]:
                    self._notebook.writes(int(number))
                    if self._critical:
                        self._nursery.start_soon(self._node.critical(f"bench/{self._name}").set, int(number))
                    else:
                        self._node.register(f"bench/{self._name}").set(int(number))
                case ["fill", keys, prefix]:
                    for key in range(int(keys)):
                        self._node.register(f"{prefix}/key-{key:06}").set(key)
                    say({"filled": now_us()})
                case ["voters"]:
                    quorum = self._node.quorum()
                    say({"voters": 0 if quorum.leader is None else len(quorum.voters)})
                case ["keys"]:
                    say({"keys": self._node.statistics()["keys"]})
                case ["digest"]:
                    say(
                        {
                            "digest": self._node.state_digest().hex(),
                            "alive": self._alive(),
                            "keys": self._node.statistics()["keys"],
                        }
                    )
                case ["report"]:
                    say({"report": self._notebook.report() | {"statistics": self._node.statistics()}})
                case ["leave"]:
                    return

    def _alive(self) -> int:
        return sum(member.state == "alive" for member in self._node.members())


async def run_agent(arguments: argparse.Namespace) -> None:
    config = node_config(arguments, preset=arguments.preset, disk=arguments.disk)
    async with mesh.open_node(config) as node:
        await Agent(node, arguments.name, critical=arguments.critical, watch=arguments.watch).run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--disk", action="store_true")
    parser.add_argument("--preset", default="lan")
    parser.add_argument("--critical", action="store_true")
    parser.add_argument("--watch", action="store_true", help="told through a task that watches, not by a call")
    arguments = parser.parse_args()
    collect_rarely()  # as `mesh up`
    trio.run(run_agent, arguments)


if __name__ == "__main__":
    main()
