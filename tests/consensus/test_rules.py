"""What the shipped rules refuse and what they leave alone; policies that change through the log, alike on every agent."""

from __future__ import annotations

from pathlib import Path as File
from typing import Any

import pytest

from consensus_escalation.block import Entry, Kind
from consensus_escalation.command import Command, Thought, Verb
from consensus_escalation.expression import Budget, Scope, Undecided, compile_untrusted, decide
from consensus_escalation.machine import Machine, Status
from consensus_escalation.policy import (
    Judgement,
    Policy,
    Rule,
    State,
    Subject,
    is_dangerous,
    read_rules,
    shipped_names,
    subject_of,
)
from consensus_escalation.sessions import NAMED
from crdt.errors import Malformed
from crdt.ops import Path, Value
from mesh.wire.cbor import decode_untrusted, encode
from tests.consensus.blocks import ALICE, BOB, Author, put

FOLDER = File(__file__).parent / "commands"
NOTHING = State(lambda _path: None, lambda _path: None, 0)


def lines(name: str) -> list[str]:
    return [line for line in (FOLDER / name).read_text().splitlines() if line and not line.startswith("#")]


def subject(intent: str = "", path: Path = (), value: Value = None, arguments: Value = None) -> Subject:
    return Subject("set", path, value, None, intent, arguments, "", "", ALICE.hex())


def judge(**what: Any) -> Judgement:
    return Policy().judge(subject(**what), NOTHING)


def everywhere(text: str) -> list[Judgement]:
    """The same text as an argument, as a value, deep inside, and as the words of a command line."""
    return [
        judge(intent="shell.run", arguments={"command": text}),
        judge(path=("robots", "7", "next"), value=text),
        judge(intent="plan", arguments={"steps": [{"note": "x", "run": [text]}]}),
    ]


@pytest.mark.parametrize("text", lines("refused.txt"))
def test_the_destructive_is_refused(text: str) -> None:
    assert all(found.refused_by for found in everywhere(text))


@pytest.mark.parametrize("text", lines("dangerous.txt"))
def test_the_drastic_has_to_be_endorsed(text: str) -> None:
    for found in everywhere(text):
        assert not found.refused_by
        assert found.is_dangerous


@pytest.mark.parametrize("text", lines("innocent.txt"))
def test_look_alikes_are_left_alone(text: str) -> None:
    assert everywhere(text) == [Judgement()] * 3


def test_a_command_line_in_words_is_one_command() -> None:
    assert judge(intent="run", arguments={"argv": ["rm", "-rf", "/"]}).refused_by == "shell-destroys"
    assert judge(intent="run", arguments={"argv": ["bash", "-c", "rm -rf /; true"]}).refused_by == "shell-destroys"
    assert judge(intent="run", arguments={"argv": ["git", "commit", "-m", "tidy up / again"]}) == Judgement()
    assert judge(intent="run", arguments={"steps": ["true", "rm -rf /"]}).refused_by, "nor a list of commands one command line"
    assert judge(path=("tags",), value=["rm", "mkfs", "alarm"]) == Judgement()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("robots/7/safety/enabled", False),
        ("robots/7/safety/enabled", 0),
        ("robots/7/safety/enabled", "off"),
        ("robots/7/interlock", False),
        ("robots/7/interlock", "bypassed"),
        ("robots/7/estop/disabled", True),
        ("cell-3/lightCurtain/muted", "off"),
        ("cell-3/safety/bypass", True),
        ("site/geofence/active", False),
    ],
)
def test_safety_is_not_switched_off_by_a_write(path: str, value: Value) -> None:
    assert judge(path=tuple(path.split("/")), value=value).refused_by == "safety-off"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("robots/7/safety/enabled", True),
        ("robots/7/estop", True),
        ("robots/7/estop", False),
        ("robots/7/safety/bypass", False),
        ("site/alarm", False),
        ("site/alarm/level", 0.5),
        ("tasks/42/owner", "robot-7"),
        ("tasks/42/enabled", False),
        ("doors/3", "open"),
        ("valves/3", "closed"),
        ("valves/3/open", False),
        ("safety/report/last", "off"),
    ],
)
def test_what_only_mentions_safety_is_left_alone(path: str, value: Value) -> None:
    assert judge(path=tuple(path.split("/")), value=value) == Judgement()


@pytest.mark.parametrize(
    ("intent", "refused", "judged"),
    [
        ("estop.disable", "safety-off", ""),
        ("safety.shutdown", "safety-off", ""),
        ("shutdownSafetySystem", "safety-off", ""),
        ("interlock.bypass", "safety-off", ""),
        ("estop.trigger", "", ""),
        ("alarm.test", "", ""),
        ("valve.open", "", "valve-open"),
        ("openValve", "", "valve-open"),
        ("valve.close", "", ""),
        ("valve.inspect", "", ""),
    ],
)
def test_intents_are_read_as_words(intent: str, refused: str, judged: str) -> None:
    found = judge(intent=intent, arguments={"id": 3})
    assert (found.refused_by, found.judged_by) == (refused, judged)


def test_a_reason_is_no_order() -> None:
    author, machine = Author(), Machine()
    told = put(("a",), 1, rationale="because rm -rf / would be wrong")
    assert author.do(machine, told)[0].status is Status.DONE


def test_a_text_made_to_cost_runs_out_of_steps_and_is_refused() -> None:
    """Nested shells, thousands of words: bounded work, and the safe side."""
    for text in ("$(" * 300 + "x", "sh -c 'a;' ;" * 2000, ("a" * 30 + " ; ") * 20_000, "((((" * 5000 + " "):
        found = judge(value=text)
        assert not found.is_dangerous or found.refused_by or found.dangerous_by == "shell-drastic"
    assert judge(value=("a" * 30 + " ; ") * 20_000).refused_by


# ---- the state machine judges


def test_what_a_rule_refuses_is_void_everywhere() -> None:
    author, machine = Author(), Machine()
    (outcome,) = author.do(machine, put(("next",), "rm -rf /", intent="shell.run"))
    assert (outcome.status, outcome.reason) == (Status.VOID, "rule: shell-destroys")
    assert machine.cell(("next",)) is None


def test_the_dangerous_class_is_void_unless_it_says_that_it_is_dangerous() -> None:
    """Then its block cannot be stored without endorsements (`evidence.Evidence`), and so it was endorsed."""
    author, machine = Author(), Machine()
    plain = put(("valves", "3"), "open", intent="valve.open")
    (outcome,) = author.do(machine, plain)
    assert (outcome.status, outcome.reason) == (Status.VOID, "not endorsed: valve-open")
    flagged = author.entry(plain._replace(thought=plain.thought._replace(is_dangerous=True)))
    assert is_dangerous(flagged, decode_untrusted)
    assert author.do(machine, flagged)[0].status is Status.DONE


def test_the_class_of_an_entry_stands_in_its_bytes() -> None:
    author = Author()
    assert not is_dangerous(author.entry(put(("a",), True)), decode_untrusted), "a value that ends like the flag"
    assert is_dangerous(author.entry(Command(Verb.DECIDE, thought=Thought("x", is_dangerous=True))), decode_untrusted)
    assert not is_dangerous(Entry(Kind.COMMAND, body=b"\xf5"), decode_untrusted)
    assert is_dangerous(Entry(Kind.POLICY), decode_untrusted)
    assert is_dangerous(Entry(Kind.RESTORE), decode_untrusted)
    assert not is_dangerous(Entry(Kind.NOOP), decode_untrusted)


def change(author: Author, number: int, *parts: object) -> Entry:
    return Entry(Kind.POLICY, ALICE, author.time, NAMED | number, encode(list(parts)))


def test_policy_changes_through_the_log_and_counts_from_its_place_on() -> None:
    author, machine = Author(), Machine(encode=encode, decode_untrusted=decode_untrusted)
    fast = put(("robots", "7", "speed"), 9)
    assert author.do(machine, fast)[0].status is Status.DONE
    limit = ["set", "speed-limit", "refuse", 'matches(path, "robots/*/speed") and number(value) > state("limits/speed")', "slow"]
    between = author.do(machine, put(("limits", "speed"), 5), change(author, 1, *limit), author.entry(fast))
    assert [outcome.reason for outcome in between] == ["", "", "rule: speed-limit"]
    assert author.do(machine, put(("robots", "7", "speed"), 4))[0].status is Status.DONE
    assert author.do(machine, put(("robots", "7", "speed"), "fast"))[0].reason == "rule: speed-limit", "undecided: refused"
    twin = Machine()
    twin.restore_untrusted(machine.snapshot())
    assert twin.digest() == machine.digest()
    assert list(twin.policy) == list(machine.policy)
    assert author.do(machine, change(author, 2, "remove", "speed-limit"), author.entry(fast))[1].status is Status.DONE
    assert twin.digest() != machine.digest()


def test_a_shipped_rule_can_be_changed_and_the_base_taken_again() -> None:
    author, machine = Author(), Machine()
    sql = put(("job",), "DROP TABLE old_events")
    assert author.do(machine, sql)[0].reason == "rule: sql-destroys"
    assert [o.reason for o in author.do(machine, change(author, 1, "remove", "sql-destroys"), author.entry(sql))] == ["", ""]
    assert author.do(machine, change(author, 2, "base", "shipped-1"))[0].reason == ""
    assert author.do(machine, sql)[0].reason == "", "what was removed stays removed until somebody sets it"
    assert author.do(machine, change(author, 3, "base", "none-such"))[0].reason == "no such rule set"


def test_rules_that_are_skipped_would_have_said_no() -> None:
    """`policy.Index` leaves out most rules for most entries."""
    own = [
        Rule("below-docks", "refuse", "matches(path, 'docks/*') and value == 1"),
        Rule("docks-alone", "endorse", "matches(path, 'docks/**')"),
        Rule("any-seven", "judge", "matches(path, '*/7') and matches(path, 'docks/**')"),
        Rule("not-first", "refuse", "value == 3 and matches(path, 'docks/**')"),
        Rule("either", "refuse", "matches(path, 'docks/**') or value == 4"),
        Rule("no-lines", "endorse", "len(lines) == 0 and value == 5"),
        Rule("always", "judge", "not any(len(line) > 3 for line in lines) and shell_drastic(lines)"),
    ]
    policy = Policy()
    assert [policy.change_untrusted(["set", *rule]) for rule in own] == [""] * len(own)
    paths: list[Path] = [(), ("docks",), ("docks", "7"), ("docks", "7", "x"), ("a", "7"), (b"docks", "7"), ("docks/7",), ("a",)]
    values: list[Value] = [None, 1, 3, 4, 5, "word", "rm -rf /", "reboot now", {"run": ["rm", "-rf", "/"]}, b"raw", "estop off"]
    skipped = 0
    for path in paths:
        for value in values:
            asked = subject(path=path, value=value)
            alone = {rule.name: _judged_alone(rule, asked) for rule in policy}
            expected = []
            for effect in ("refuse", "endorse", "judge"):
                expected.append(next((rule.name for rule in policy if rule.effect == effect and alone[rule.name]), ""))
            found = policy.judge(asked, NOTHING)
            assert found.refused_by == expected[0], (path, value)
            assert found == Judgement(*expected) or found.refused_by, (path, value)
            skipped += not any(alone.values())
    assert 10 < skipped < len(paths) * len(values)


@pytest.mark.parametrize("own", ["", "matches(path, 'docks/**') and value == 1", "value == 1 and verb == 'delete'"])
def test_a_write_that_no_rule_is_about_is_judged_at_a_glance_and_alike(own: str) -> None:
    machine = Machine(encode=encode, decode_untrusted=decode_untrusted)
    if own:
        assert machine.policy.change_untrusted(["set", "own", "refuse", own, ""]) == ""
    names = ("docks", "7", "estop", "enabled", "valve", "open", "safety.bypass", "light-curtain", "a b")
    paths: list[Path] = [(one, two) for one in names for two in names] + [(b"estop", "x"), ("estopped",)]
    values: list[Value] = [None, False, True, 0, 1, 2.5, "", "off", "r7", "open", "estop-off", "valve.open", "a b", b"off", [1]]
    values += [-25, 256, 1 << 20]
    silent = 0
    for path in paths:
        for value in values:
            for verb in (Verb.SET, Verb.DELETE):
                command = Command(verb, path, encode(value))
                state = State(lambda _path: None, lambda _path: None, 0)
                expected = machine.policy.judge(subject_of(command, ALICE, decode_untrusted), state)
                assert machine.judge_command(command, ALICE) == expected, (path, value)
                silent += machine.policy.is_silent(path, value)
    assert silent == 0 if own.startswith("value") else silent > 200, "a rule that may be about anything"


def _judged_alone(rule: Rule, asked: Subject) -> bool:
    """By a policy that cannot tell beforehand which paths or texts this is about."""
    policy = Policy()
    for name in [rule.name for rule in policy]:
        assert policy.change_untrusted(["remove", name]) == ""
    when = f"verb == 'set' and ({rule.when})"
    assert policy.change_untrusted(["set", rule.name, "refuse", when, ""]) == ""
    return bool(policy.judge(asked, NOTHING).refused_by)


def test_bad_policies_are_void() -> None:
    author, machine = Author(), Machine()
    before = list(machine.policy)
    bad = [
        ["set", "Bad Name", "refuse", "True", ""],
        ["set", "x", "explode", "True", ""],
        ["set", "x", "refuse", "__import__('os')", ""],
        ["set", "x", "refuse", "value.__class__ ** 2", ""],
        ["set", "x", "refuse", "(", ""],
        ["set", "x", "refuse", "1 +" * 200 + "1", ""],
        ["set", "x", "refuse", "True", "r" * 300],
        ["remove", "none-such"],
        ["set", "x"],
        [],
        7,
    ]
    for number, parts in enumerate(bad):
        body = encode(parts)
        entry = Entry(Kind.POLICY, BOB, author.time, NAMED | number, body)
        assert author.do(machine, entry)[0].status is Status.VOID, parts
    assert author.do(machine, Entry(Kind.POLICY, BOB, author.time, NAMED | 99, b"\xff"))[0].reason == "malformed"
    assert list(machine.policy) == before


def test_agents_of_two_versions_of_python_judge_alike() -> None:
    """What a letter is, how deep brackets go and how an error of syntax is worded depends on the version of Python. All three had
    been part of the state: agents of two versions came to different digests."""
    for text in ("r\u00e9sum\u00e9", "\u05d0\u05d1", "\U0001e4d0"):
        assert judge(path=("a",), value=f"{text}=1 rm -rf /").refused_by == judge(path=("a",), value="x rm -rf /").refused_by
        with pytest.raises(Malformed, match="ASCII"):
            compile_untrusted("\u00e9 == 1", [])
    with pytest.raises(Malformed, match="ASCII"):
        compile_untrusted("value.\u00e9 == 1", [])
    with pytest.raises(Malformed, match="brackets"):
        compile_untrusted("(" * 65 + "1" + ")" * 65, [])
    author, machine = Author(), Machine()
    reasons = set()
    for number, when in enumerate(("a b", "(", "t'x'", "lambda: 1", "f'{1}'")):
        entry = Entry(Kind.POLICY, BOB, author.time, NAMED | number, encode(["set", "x", "refuse", when, ""]))
        reasons.add(author.do(machine, entry)[0].reason)
    assert reasons == {"not a rule"}, "the reason is remembered with the entry's key"
    assert "syntax" in machine.policy.why_not(Rule("x", "refuse", "a b")), "people are told before it is asked for"


def test_shipped_rule_sets_never_change() -> None:
    """Agents of two versions have to judge alike: a better set gets another name."""
    assert shipped_names() == {"shipped-1"}
    assert [(rule.name, rule.effect) for rule in Policy()] == [
        ("shell-destroys", "refuse"),
        ("sql-destroys", "refuse"),
        ("safety-off", "refuse"),
        ("valve-open", "judge"),
        ("shell-drastic", "endorse"),
        ("sql-drastic", "endorse"),
    ]


def test_a_rules_file_says_what_is_wrong_with_it() -> None:
    rule = '[[rule]]\nname = "a"\neffect = "refuse"\nwhen = "{}"\n'
    assert read_rules(rule.format("value == 1")) == [Rule("a", "refuse", "value == 1")]
    for bad in ("[[rule]]", rule.format("import os"), rule.format("True") * 2, "x", rule.format("True") + "color = 1\n"):
        with pytest.raises(Malformed):
            read_rules(bad)


# ---- expressions


def run(text: str, steps: int = 1000, **names: object) -> bool:
    functions = {"len": lambda _budget, value: len(value)}
    return decide(compile_untrusted(text, functions), Scope(names, functions, Budget(steps)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3 == 7 and not False", True),
        ("a.b.c == 4", True),
        ("a.b.nothing == None", True),
        ("a['b']['c'] in [3, 4]", True),
        ("x[0] == 1 and x[9] == None and x[-1] == 3", True),
        ("any(y > 2 for y in x)", True),
        ("all(y > 2 for y in x if y != 1 and y != 2)", True),
        ("1 < 2 < 3 and not 1 < 3 < 2", True),
        ("'b' in 'abc' and 'z' not in 'abc'", True),
        ("(1 if x else 2) == 1", True),
        ("7 // 2 == 3 and 7 % 2 == 1 and -1 < 0", True),
        ("len(x) == 3", True),
        ("None in [None]", True),
    ],
)
def test_expressions(text: str, expected: bool) -> None:
    assert run(text, a={"b": {"c": 4}}, x=[1, 2, 3]) is expected


@pytest.mark.parametrize(
    "text",
    ["None < 3", "'a' * 3 == 'aaa'", "unknown", "x.a < 1", "any(y for y in 5)", "1 // 0", "'a' + 1", "1 < 'a'"],
)
def test_what_makes_no_sense_is_undecided(text: str) -> None:
    with pytest.raises(Undecided):
        run(text, x=[1])


@pytest.mark.parametrize(
    "text",
    [
        "lambda: 1",
        "x.append(1)",
        "[y for y in x]",
        "x := 1",
        "f'{x}'",
        "2 ** 9",
        "1 / 3",
        "x[1:2]",
        "len(*x)",
        "any(x)",
        "~1",
        "a; b",
        "...",
        "1j",
        "(" * 400,
        "not " * 60 + "1",
        "what(1)",
        "any(y for z in x for y in z)",
    ],
)
def test_what_is_not_in_the_language_is_refused_before_it_runs(text: str) -> None:
    with pytest.raises(Malformed):
        compile_untrusted(text, ["len"])


def test_python_itself_is_out_of_reach() -> None:
    for text in ("x.__class__", "x.__class__.__mro__", "''.join"):
        assert run(text, x=[1]) is False
    with pytest.raises(Undecided, match="nothing is called"):
        run("len.__globals__")


def test_steps_run_out() -> None:
    with pytest.raises(Undecided, match="steps"):
        run("any(any(any(a + b + c == 999 for a in x) for b in x) for c in x)", x=list(range(100)))
    with pytest.raises(Undecided, match="too large"):
        run("x * x * x == 1", x=1 << 63)
