"""Scenarios as text, in the manner of etcd's: verbs, a line of dashes, what happened. Read them as specification.

`python -m tests.consensus.scenario --rewrite` records what happens now; look at the difference before you commit it.

    voters 3            a cluster                    submit 1 text       give voter 1 an entry
    campaign 1          voter 1 wants to lead        deliver             all messages, printed as they arrive
    wait 0.3            time passes (and messages)   drop                lose what is on its way
    cut 1 2 / heal      1 and 2 against the others   crash 1 / restart 1
    disk 1 slow|fast    writes hang / finish         status              term, role, log, commit of each
    score 1 9 3         voter 1 logs the score 9 of voter 3
"""

from __future__ import annotations

import sys
from pathlib import Path

from consensus_escalation.effects import Campaign, Persist, Received, Refused, Submit
from consensus_escalation.messages import Accepted, Append, AskPreVote, AskVote, HandOver, Message, PreVote, Rejected, Vote
from consensus_escalation.types import Voter
from tests.consensus.cluster import Cluster, Machine, score_entry

FOLDER = Path(__file__).parent / "scenarios"
RULE = "----"


def number(who: Voter) -> int:
    return int.from_bytes(who, "big")


def describe(message: Message) -> str:
    match message:
        case AskPreVote(term, last, mandate) | AskVote(term, last, mandate):
            ask = "pre-vote?" if isinstance(message, AskPreVote) else "vote?"
            return f"{ask} term {term}, log {last.index}/{last.term}" + (" by mandate" if mandate else "")
        case PreVote(term, granted) | Vote(term, granted):
            what = "pre-vote" if isinstance(message, PreVote) else "vote"
            return f"{what} {'granted' if granted else 'refused'}, term {term}"
        case Append(term, prev_index, prev_term, _, blocks, commit):
            what = ", ".join(f"{block.index}/{block.term}" for block in blocks) or "nothing"
            return f"append {what} after {prev_index}/{prev_term}, term {term}, commit {commit}"
        case Accepted(term, match):
            return f"accepted up to {match}, term {term}" + (", signed" if message.ack else "")
        case Rejected(term, prev_index, hint):
            return f"rejected after {prev_index}, try {hint}, term {term}"
        case HandOver():
            return f"lead! term {message.term}"
        case _:
            return type(message).__name__


class Stage:
    def __init__(self) -> None:
        self.cluster = Cluster(1)

    def play(self, line: str) -> str:
        verb, *words = line.split()
        method = getattr(self, f"do_{verb}", None)
        if method is None:
            raise SystemExit(f"no such verb: {line}")
        return str(method(*words) or "ok")

    def _machine(self, word: str) -> Machine:
        return self.cluster[int(word)]

    def do_voters(self, size: str) -> None:
        self.cluster = Cluster(int(size))

    def do_campaign(self, who: str) -> None:
        self._machine(who).step(Campaign())

    def do_submit(self, who: str, text: str) -> str:
        machine = self._machine(who)
        self.cluster.submit(machine, text)
        return "\n".join(f"refused: {n.reason}" for n in machine.take(Refused) if isinstance(n, Refused))

    def do_score(self, who: str, score: str, of: str) -> None:
        self._machine(who).step(Submit(score_entry(int(of), int(score))))

    def do_deliver(self) -> str:
        lines = []
        while self.cluster.inbox:
            sender, to, message = self.cluster.inbox.popleft()
            machine = self.cluster.machines[to]
            lost = machine.raft is None or self.cluster.lost(sender, to, message)
            lines.append(f"{number(sender)}>{number(to)} {describe(message)}" + (" (lost)" if lost else ""))
            if not lost:
                machine.step(Received(sender, message))
        return "\n".join(lines) or "nothing on its way"

    def do_drop(self) -> str:
        count = len(self.cluster.inbox)
        self.cluster.inbox.clear()
        return f"{count} lost"

    def do_wait(self, seconds: str) -> None:
        self.cluster.advance(float(seconds))

    def do_cut(self, *who: str) -> None:
        self.cluster.cut_off(*map(int, who))

    def do_heal(self) -> None:
        self.cluster.heal()

    def do_crash(self, who: str) -> None:
        self._machine(who).crash()

    def do_restart(self, who: str) -> None:
        self._machine(who).start()

    def do_disk(self, who: str, speed: str) -> None:
        machine = self._machine(who)
        if speed == "slow":
            self.cluster.slow_disks.add(machine.me)
            return
        self.cluster.slow_disks.discard(machine.me)
        if machine.stream and isinstance(machine.stream[0], Persist):
            machine.drain()

    def do_status(self) -> str:
        lines = []
        for name, machine in self.cluster.machines.items():
            raft = machine.raft
            if raft is None:
                lines.append(f"{number(name)} down")
                continue
            log = " ".join(f"{block.index}/{block.term}" for block in raft.log.between(1, raft.log.last_index))
            leader = number(raft.leader) if raft.leader else "nobody"
            lines.append(f"{number(name)} {raft.role.value} term {raft.term} leader {leader} commit {raft.commit} log [{log}]")
        return "\n".join(lines)


def replay(text: str) -> str:
    """The scenario with what happens now."""
    stage, out, skipping = Stage(), [], False
    for line in text.splitlines():
        if skipping:
            skipping = bool(line.strip())
            if skipping:
                continue
        if line == RULE:
            skipping = True
            continue
        out.append(line)
        if line.strip() and not line.startswith("#"):
            out += [RULE, stage.play(line)]
    return "\n".join(out).rstrip() + "\n"


def main() -> None:
    for path in sorted(FOLDER.glob("*.txt")):
        now = replay(path.read_text())
        if now != path.read_text():
            print(f"{path.name} differs")
            if "--rewrite" in sys.argv:
                path.write_text(now)


if __name__ == "__main__":
    main()
