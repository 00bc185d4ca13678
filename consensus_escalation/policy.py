"""The rules by which entries are judged, the same on every agent: functions of the entry, the state at its place, and the policy.

A rule is a name, an effect, a condition and a reason. The policy is the shipped set plus what POLICY entries changed since: each
sets or removes one rule, or takes another shipped set as the base. What an expression sees:

    verb          "set", "delete", "compare_and_set", "acquire", "renew", "release", "expire", "decide", "policy", "restore"
    path          "tasks/42/owner"; `segments` is the list
    value         what is to be written; `expected` what a compare-and-set expects
    intent, arguments, rationale, trace      the thought behind it
    author        the replica id in hexadecimal
    texts         every text in value, arguments and intent (not the rationale: a reason is no order); `lines` are those that
                  are more than one word: a word alone is a value, as `poweroff` may be
    time          log time, seconds since 1970
    state(path)   what the path holds now
    holder(path)  who holds that lease, in hexadecimal; null when nobody does
    matches(path, pattern), lower(text), words(text), len(x), number(x); predicates of this mesh's own that were declared

A rule that runs out of steps or makes no sense of what it sees meets the entry: the safe side.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import resources
from keyword import iskeyword
from typing import Any, Final, NamedTuple

from consensus_escalation.block import Entry, Kind
from consensus_escalation.command import NULL, Command, command_from_bytes_untrusted
from consensus_escalation.expression import (
    Budget,
    Compiled,
    Function,
    Reads,
    Scope,
    Undecided,
    compile_untrusted,
    decide,
    reads_of,
)
from consensus_escalation.hazards import BY_WORDS, SHIPPED
from consensus_escalation.hazards.safety import is_harmless
from crdt.errors import Malformed
from crdt.known import remember
from crdt.ops import Path, Value

NEWEST: Final = "shipped-1"
"""The base of a new mesh. Never changes for an old one: agents of two versions must judge alike."""
RULES_MAX: Final = 128
"""Guess: each is looked at for every entry."""
TEXTS_MAX: Final = 256
PATHS_REMEMBERED_MAX: Final = 4096
"""Of which is known whether any rule is about them; about 1 MB."""
NAME_BYTES_MAX: Final = 64
REASON_BYTES_MAX: Final = 200

PREDICATES_MAX: Final = 32
"""Guess."""
PREDICATE_BYTES: Final = 16
"""Of the hash that is a predicate's version."""
REFUSE, ENDORSE, JUDGE = "refuse", "endorse", "judge"
POLICY: Final = "policy"
"""The verb of a policy change, and the rule that always wants a judge for it."""
EFFECTS: Final = (REFUSE, ENDORSE, JUDGE)
_TRUE: Final = b"\xf5"
_BARE: Final = frozenset({type(None), bool, int, float, bytes})
"""Types of values in which no rule finds a text."""
_ONE_WORD: Final = re.compile(r"[\w.:,@+-]*", re.ASCII)
_PLAIN_WORD: Final = re.compile(r"[\w@%+=:,./~*$-]+", re.ASCII)
"""ASCII, as everything here that looks at letters: what a letter is beyond it depends on the version of Python."""
FUNCTIONS: Final = frozenset({*SHIPPED, "matches", "lower", "words", "len", "number", "state", "holder"})
"""What every mesh's expressions may call."""
NO_RULE: Final = "not a rule"
NOT_ENDORSED: Final = "not endorsed: "
"""Before the rule's name, when an entry of the dangerous class comes without saying so."""


class Rule(NamedTuple):
    name: str
    effect: str
    when: str
    because: str = ""


class Predicate(NamedTuple):
    """A function of this mesh's own that rules may call, once it is declared in the log."""

    function: Function
    version: str
    """Hexadecimal: of its source, so that agents which judge otherwise are told apart."""


class Judgement(NamedTuple):
    """Of all rules on one entry. Names, so that everybody can look them up; empty when no rule says so."""

    refused_by: str = ""
    dangerous_by: str = ""
    judged_by: str = ""
    """The rule that wants a judge's yes."""

    @property
    def is_dangerous(self) -> bool:
        return bool(self.dangerous_by or self.judged_by)


SILENCE: Final = Judgement()
"""No rule says anything."""


class State(NamedTuple):
    """What rules may ask of the state at the entry's place."""

    value: Callable[[Path], Value]
    holder: Callable[[Path], str | None]
    time: int
    """Log time, microseconds."""


class Subject(NamedTuple):
    """What is judged, decoded."""

    verb: str
    path: Path
    value: Value
    expected: Value
    intent: str
    arguments: Value
    rationale: str
    trace: str
    author: str


def subject_of(command: Command, author: bytes, decode_untrusted: Callable[[bytes], Any]) -> Subject:
    """Raises Malformed when a value in it is no CBOR."""
    thought = command.thought
    value, expected, arguments = (
        decode_untrusted(raw) if raw != NULL else None for raw in (command.value, command.expected, thought.arguments)
    )
    return Subject(
        command.verb.name.lower(),
        command.path,
        value,
        expected,
        thought.intent,
        arguments,
        thought.rationale,
        thought.trace,
        author.hex(),
    )


class Steps(Budget):
    """What functions get first: what they spend, and what is true at this place."""

    __slots__ = ("state",)

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state


class Policy:
    """Changed only by `change_untrusted`, in the order of the log."""

    def __init__(self, base: str = NEWEST, predicates: Mapping[str, Predicate] | None = None) -> None:
        """`predicates`: those that this agent has. Rules may call them once they were declared, in the version that was."""
        self.base = base
        self._has = dict(predicates or {})
        self._declared: dict[str, str] = {}
        """Name -> version, as all agents have to have it."""
        self._functions: dict[str, Function] = {**_BUILT_IN, **SHIPPED}
        self._own: dict[str, Rule | None] = {}
        """What was set or (None) removed on top of the base."""
        self._rules: list[tuple[Rule, Compiled]] = []
        self._index = Index((), self._functions)
        self._rebuild()

    def __iter__(self) -> Iterator[Rule]:
        return (rule for rule, _ in self._rules)

    def rule(self, name: str) -> Rule | None:
        return next((rule for rule in self if rule.name == name), None)

    def lacks(self, name: str, version: str) -> bool:
        """Whether this agent does not have that predicate in that version."""
        return name not in self._has or self._has[name].version != version

    @property
    def lacking(self) -> str:
        """A declared predicate that this agent does not have; empty when it has all."""
        return next((name for name, version in self._declared.items() if self.lacks(name, version)), "")

    def _rebuild(self) -> None:
        declared = {name: self._has[name] for name, version in self._declared.items() if not self.lacks(name, version)}
        self._functions = {**_BUILT_IN, **SHIPPED, **dict.fromkeys(self._declared, _missing)}
        self._functions |= {name: _guarded(predicate.function) for name, predicate in declared.items()}
        rules: dict[str, Rule | None] = {rule.name: rule for rule in shipped(self.base)}
        rules.update(self._own)
        self._rules = [(rule, compile_untrusted(rule.when, self._functions)) for rule in rules.values() if rule is not None]
        self._index = Index(self._rules, self._functions)

    # ---- judging

    def is_silent(self, path: Path, value: Value) -> bool:
        """Whether no rule objects to this value there when nothing else is said about it. False decides nothing: `judge` does."""
        if isinstance(value, str):
            if not _ONE_WORD.fullmatch(value) or not is_harmless(value):
                return False
        elif type(value) not in _BARE:
            return False
        return self.leaves_alone(path)

    def leaves_alone(self, path: Path) -> bool:
        """As `is_silent` of any number."""
        return self._index.leaves_alone(path)

    def judge(self, subject: Subject, state: State) -> Judgement:
        budget = Steps(state)
        found = {REFUSE: "", ENDORSE: "", JUDGE: ""}
        scope = self._scope(subject, state, budget)
        for rule, compiled in self._index.concerned(scope.names["path"], has_lines=bool(scope.names["lines"])):
            if found[rule.effect]:
                continue
            try:
                meets = decide(compiled, scope)
            except Undecided:
                meets = True
            if meets:
                found[rule.effect] = rule.name
                if rule.effect == REFUSE:
                    break
        return Judgement(found[REFUSE], found[ENDORSE], found[JUDGE])

    def _scope(self, subject: Subject, state: State, budget: Steps) -> Scope:
        names: dict[str, Any] = dict(zip(Subject._fields, subject, strict=True))
        names["segments"] = list(subject.path)
        names["path"] = _text_of(subject.path)
        names["texts"] = [] if subject.verb == POLICY else texts_in([subject.intent, subject.value, subject.arguments], budget)
        names["time"] = state.time // 1_000_000
        names["lines"] = [text for text in names["texts"] if not _ONE_WORD.fullmatch(text)]
        return Scope(names, self._functions, budget)

    # ---- changing

    def change_untrusted(self, value: object) -> str:
        """What a POLICY entry says. Returns why it is void; empty when it was done."""
        match value:
            case ["set", str(name), str(effect), str(when), str(because)]:
                return self._set(Rule(name, effect, when, because))
            case ["remove", str(name)]:
                if self.rule(name) is None:
                    return "no such rule"
                self._own[name] = None
            case ["predicate", str(name), str(version)]:
                if why := self._declare(name, version):
                    return why
            case ["forget", str(name)]:
                if name not in self._declared:
                    return "no such predicate"
                if any(name in reads_of(rule.when).functions for rule in self):
                    return "a rule calls it"
                del self._declared[name]
            case ["base", str(name)]:
                if name not in shipped_names():
                    return "no such rule set"
                self.base = name
            case _:
                return "malformed"
        self._rebuild()
        return ""

    def _declare(self, name: str, version: str) -> str:
        if not is_free_name(name) or not re.fullmatch(rf"[0-9a-f]{{{2 * PREDICATE_BYTES}}}", version):
            return "not a predicate"
        if name not in self._declared and len(self._declared) >= PREDICATES_MAX:
            return "too many predicates"
        self._declared[name] = version
        return ""

    def why_not(self, rule: Rule) -> str:
        """Why this is no rule here; empty when it is one. For people: the words may differ from agent to agent."""
        return why_not(rule, self._functions)

    def _set(self, rule: Rule) -> str:
        why = NO_RULE if self.why_not(rule) else ""  # what exactly is wrong depends on the version of Python
        if not why and self.rule(rule.name) is None and len(self._rules) >= RULES_MAX:
            why = "too many rules"
        if not why:
            self._own[rule.name] = rule
            self._rebuild()
        return why

    # ---- as a value

    def to_value(self) -> list[object]:
        rules = [list(rule) if rule else [name] for name, rule in self._own.items()]
        return [self.base, rules, [list(each) for each in sorted(self._declared.items())]]

    def load_untrusted(self, value: Any) -> None:
        """Raises Malformed."""
        try:
            base, rows, declared = value
            known = {name: str(version) for name, version in declared}
            own = {row[0]: Rule(*row) if len(row) > 1 else None for row in rows}
        except (TypeError, ValueError, IndexError) as error:
            raise Malformed("policy has another shape") from error
        names = {*_BUILT_IN, *SHIPPED, *known}
        wrong = any(rule and why_not(rule, names) for rule in own.values())
        if not all(isinstance(name, str) and is_free_name(name) for name in known) or len(known) > PREDICATES_MAX:
            raise Malformed("policy has predicates that are none")
        if wrong or base not in shipped_names() or len(own) > 2 * RULES_MAX:
            raise Malformed("policy has rules that are none")
        self.base, self._own, self._declared = base, own, known
        self._rebuild()


class Index:
    """Which rules have to be looked at for an entry: most entries are named by none, or by those only that look at every path.

    A rule about paths below a name is skipped elsewhere, and one that reads nothing but lines of text is skipped where there is
    none and it would say no. The same on every agent, so skipping is a part of what rules mean: it costs no steps.
    """

    def __init__(self, rules: Sequence[tuple[Rule, Compiled]], functions: Mapping[str, Function]) -> None:
        self._rules = [(rule, compiled, reads_of(rule.when)) for rule, compiled in rules]
        if functions.get("matches") is not _matches:  # this mesh has its own, which may mean anything
            self._rules = [(rule, compiled, reads._replace(pattern=None)) for rule, compiled, reads in self._rules]
        self._heads = {head for *_, reads in self._rules if (head := _head_of(reads.pattern)) is not None}
        self._is_quiet = {rule.name for rule, compiled, reads in self._rules if _is_quiet(compiled, reads, functions)}
        self._by_words = {
            rule.name
            for rule, _, reads in self._rules
            if reads.call in BY_WORDS and functions[reads.call[0]] is SHIPPED[reads.call[0]]
        }
        self._found: dict[tuple[str | None, bool], tuple[tuple[Rule, Compiled], ...]] = {}
        self._left_alone: dict[Path, bool] = {}

    def leaves_alone(self, path: Path) -> bool:
        """Whether all rules say no there while nothing is said that is not `is_harmless`."""
        found = self._left_alone.get(path)
        if found is None:
            rules = self.concerned(_text_of(path), has_lines=False)
            found = all(rule.name in self._by_words for rule, _ in rules)
            found = found and all(is_harmless(segment) for segment in path if isinstance(segment, str))
            remember(self._left_alone, path, found, PATHS_REMEMBERED_MAX)
        return found

    def concerned(self, path: str, *, has_lines: bool) -> tuple[tuple[Rule, Compiled], ...]:
        """In their order."""
        head: str | None = path.partition("/")[0]
        if head not in self._heads:
            head = None
        found = self._found.get((head, has_lines))
        if found is None:
            found = self._found[head, has_lines] = tuple(
                (rule, compiled)
                for rule, compiled, reads in self._rules
                if _head_of(reads.pattern) in (None, head) and (has_lines or rule.name not in self._is_quiet)
            )
        return found


def _text_of(path: Path) -> str:
    """As rules see it."""
    return "/".join([part if isinstance(part, str) else f"0x{part.hex()}" for part in path])


def _head_of(pattern: str | None) -> str | None:
    """The first segment of all paths that match; None when it may be any."""
    head = pattern.partition("/")[0] if pattern is not None else "*"
    return None if head in ("*", "**") else head


def _is_quiet(compiled: Compiled, reads: Reads, functions: Mapping[str, Function]) -> bool:
    """Whether it says no wherever there are no lines, whatever else the entry and the state are."""
    if reads.names != {"lines"} or not reads.functions <= SHIPPED.keys():
        return False
    try:
        return not decide(compiled, Scope({"lines": []}, functions, Budget()))
    except Undecided:
        return False


def why_not(rule: Rule, functions: Container[str]) -> str:
    """Why this is no rule; empty when it is one."""
    if not all(isinstance(part, str) for part in rule):
        return "malformed"
    if not 0 < len(rule.name.encode()) <= NAME_BYTES_MAX or not re.fullmatch(r"[a-z0-9][a-z0-9-]*", rule.name):
        return "a rule's name is lower-case letters, digits and -"
    if rule.effect not in EFFECTS:
        return f"an effect is one of {', '.join(EFFECTS)}"
    if len(rule.because.encode()) > REASON_BYTES_MAX:
        return "a reason that is too long"
    try:
        compile_untrusted(rule.when, functions)
    except Malformed as error:
        return str(error)
    return ""


def read_rules(text: str, functions: Container[str] = FUNCTIONS) -> list[Rule]:
    """A rules file. Raises Malformed, which names the rule."""
    try:
        rows = tomllib.loads(text).get("rule", [])
        rules = [Rule(**row) for row in rows]
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise Malformed(f"not a rules file: {error}") from error
    for rule in rules:
        if why := why_not(rule, functions):
            raise Malformed(f"rule {rule.name!r}: {why}")
    if len({rule.name for rule in rules}) < len(rules) or len(rules) > RULES_MAX:
        raise Malformed("two rules of one name, or too many")
    return rules


@lru_cache(maxsize=8)
def shipped(name: str) -> tuple[Rule, ...]:
    """A shipped rule set."""
    return tuple(read_rules((resources.files("consensus_escalation") / "rules" / f"{name}.toml").read_text(encoding="utf-8")))


@lru_cache(maxsize=1)
def shipped_names() -> frozenset[str]:
    folder = resources.files("consensus_escalation") / "rules"
    return frozenset(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def is_dangerous(entry: Entry, decode_untrusted: Callable[[bytes], Any]) -> bool:
    """Whether the entry is of the dangerous class by what stands in it, so that all see it alike, whatever they have applied: it
    changes who decides or by what, or its author says so. Rules void what should have said so and did not.
    """
    if entry.kind is not Kind.COMMAND:
        return entry.kind in (Kind.POLICY, Kind.RESTORE)
    if entry.body[-1:] != _TRUE:  # the flag is the last thing in a command, when it is there
        return False
    try:
        return command_from_bytes_untrusted(entry.body, decode_untrusted).thought.is_dangerous
    except Malformed:
        return False


# ---- what expressions may call


def texts_in(values: Iterable[Any], budget: Budget) -> list[str]:
    """Every text, keys too, at any depth, and lists of words as the command line that they are."""
    found: list[str] = []
    waiting = list(values)
    while waiting and len(found) < TEXTS_MAX:
        value = waiting.pop()
        budget.spend()
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, Mapping):
            waiting += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value
            if value and all(isinstance(word, str) for word in value):
                found.append(" ".join(_quoted(word) for word in value))
    return found


def _quoted(word: str) -> str:
    return word if _PLAIN_WORD.fullmatch(word) else "'" + word.replace("'", "'\\''") + "'"


def _path(path: object, budget: Budget) -> Path:
    budget.spend(10)
    if isinstance(path, str):
        return tuple(path.split("/"))
    if isinstance(path, list | tuple):
        return tuple(path)
    raise Undecided("not a path")


def _matches(budget: Budget, path: object, pattern: object) -> bool:
    """`*` is one segment, `**` any number of them."""
    if not isinstance(pattern, str):
        raise Undecided("a pattern is text")
    return _match(budget, _path(path, budget), tuple(pattern.split("/")))


def _match(budget: Budget, path: Sequence[object], pattern: Sequence[str]) -> bool:
    budget.spend()
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_match(budget, path[skip:], pattern[1:]) for skip in range(len(path) + 1))
    return bool(path) and pattern[0] in ("*", path[0]) and _match(budget, path[1:], pattern[1:])


def _lower(budget: Budget, text: object) -> str:
    budget.spend_on(text)
    return _ascii_lower(text) if isinstance(text, str) else ""


def _ascii_lower(text: str) -> str:
    """Beyond ASCII, what is lower case depends on the version of Python."""
    return text.encode("utf-8", "replace").lower().decode()


def _words(budget: Budget, text: object) -> list[str]:
    budget.spend_on(text)
    return re.findall(r"[a-z0-9_]+", _ascii_lower(text)) if isinstance(text, str) else []


def _len(budget: Budget, value: object) -> int:
    budget.spend()
    return len(value) if isinstance(value, str | bytes | list | tuple | Mapping) else 0


def _number(budget: Budget, value: object) -> float | int:
    """Undecided unless it is a number."""
    budget.spend()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Undecided("not a number")
    return value


def _state(budget: Steps, path: object) -> Value:
    return budget.state.value(_path(path, budget))


def _holder(budget: Steps, path: object) -> str | None:
    return budget.state.holder(_path(path, budget))


_BUILT_IN: Final[dict[str, Function]] = {
    "matches": _matches,
    "lower": _lower,
    "words": _words,
    "len": _len,
    "number": _number,
    "state": _state,
    "holder": _holder,
}


# ---- predicates of this mesh's own


def is_free_name(name: str) -> bool:
    """Whether a predicate may have it: none of ours, and one that an expression can call."""
    taken = name in _BUILT_IN or name in SHIPPED or name in ("any", "all")
    return not taken and len(name) <= NAME_BYTES_MAX and bool(re.fullmatch(r"[a-z_][a-z0-9_]*", name)) and not iskeyword(name)


def _missing(_budget: Budget, *_arguments: object) -> bool:
    raise Undecided("a predicate that this agent lacks")


def _guarded(function: Function) -> Function:
    """Whatever it raises is no opinion; what it gives is a plain value."""

    def call(budget: Budget, *arguments: object) -> object:
        try:
            found = function(budget, *arguments)
        except Undecided:
            raise
        except Exception as error:
            raise Undecided(f"a predicate failed: {error!r}") from error
        if not (found is None or type(found) in (bool, int, float, str, bytes)):
            raise Undecided("a predicate gives a plain value")
        return found

    return call
