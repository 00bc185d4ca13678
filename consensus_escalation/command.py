"""What clients ask of the state machine: a verb on a path, and the thought behind it.

An entry's body is one command, deterministic CBOR: [verb, path, value, expected, token, ttl, thought], where trailing defaults
are left out. Values are the CBOR of what the user wrote, never decoded here.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias

from crdt.errors import Malformed, PathError
from crdt.ops import Path
from crdt.types.paths import parse_path

Decode: TypeAlias = Callable[[bytes], object]
NULL: Final = b"\xf6"
"""CBOR null, which is also what a path holds where nothing was written."""
TEXT_BYTES_MAX: Final = 256
"""Of an intent, a rationale, a trace id. The whole has to fit a block: 780 bytes, 660 with its endorsements."""


REMEMBERED_MAX: Final = 4096
"""Commands decoded lately, and at most as many before, about 4 MB each: one is looked at when it is submitted, when it is
judged, when it is applied, and afterwards. As many as a leader lets wait (`Pace.pending_entries_max`): with fewer, a busy one
decodes each several times."""


class Verb(IntEnum):
    """Stable on the wire."""

    SET = 1
    DELETE = 2
    COMPARE_AND_SET = 3
    ACQUIRE = 4
    RENEW = 5
    RELEASE = 6
    EXPIRE = 7
    """Of a lease; only by the leader of the block that holds it."""
    DECIDE = 8
    """Changes no cell: that it was agreed is all."""


class Thought(NamedTuple):
    """Why: a structured thought of its author (DESIGN section 7)."""

    intent: str = ""
    """What is to happen, in the words of the rules: `shell.run`, `valve.open`. Empty: the verb says it all."""
    arguments: bytes = NULL
    """CBOR of whatever the intent needs."""
    rationale: str = ""
    trace: str = ""
    """The author's own id of what led here."""
    is_dangerous: bool = False
    """Of the dangerous class: endorsed before it is appended. The author says so; the rules void an entry that should have."""


NO_THOUGHT: Final = Thought()


class Command(NamedTuple):
    verb: Verb
    path: Path = ()
    value: bytes = NULL
    """CBOR. For `DECIDE` nothing."""
    expected: bytes = NULL
    """Compare-and-set: CBOR of what must be there now; null for nothing."""
    token: int = 0
    """The lease in question: renew, release, expire."""
    ttl: int = 0
    """Milliseconds: acquire, renew. For `EXPIRE` the index that the lease was last renewed at."""
    thought: Thought = NO_THOUGHT


_DEFAULTS: Final = Command(Verb.SET)
_REST: Final = _DEFAULTS[3:]
"""What most commands leave out: all after the value."""
_VERBS: Final = {int(verb): verb for verb in Verb}
_SEGMENTS: Final = {str, bytes}


def command_to_bytes(command: Command, encode: Callable[[object], bytes]) -> bytes:
    if command[3:] == _REST and command.value != NULL:
        return encode([int(command.verb), list(command.path), command.value])
    parts: list[object] = [int(command.verb), list(command.path), *command[2:6], list(command.thought)]
    defaults = [None, None, *_DEFAULTS[2:6], list(NO_THOUGHT)]
    while len(parts) > 2 and parts[-1] == defaults[len(parts) - 1]:
        parts.pop()
    return encode(parts)


def is_short_number(raw: bytes) -> bool:
    """Whether these are the deterministic CBOR of an integer of up to 16 bits: what most values are, at a tenth of what it costs
    to decode one. False says nothing."""
    size = len(raw)
    if not 0 < size <= 3 or raw[0] >= 0x40:
        return False
    head = raw[0] & 0x1F
    if size == 1:
        return head < 24
    return raw[1] >= 24 if size == 2 and head == 24 else size == 3 and head == 25 and raw[1] > 0


class Remembered:
    """What decoding gave, and what this agent wrote itself, so that it need not be decoded."""

    def __init__(self) -> None:
        self._new: dict[tuple[bytes, Decode], Command] = {}
        self._old: dict[tuple[bytes, Decode], Command] = {}

    def get(self, raw: bytes, decode_untrusted: Decode) -> Command | None:
        return self._new.get((raw, decode_untrusted)) or self._old.get((raw, decode_untrusted))

    def put(self, raw: bytes, decode_untrusted: Decode, command: Command) -> None:
        if len(self._new) >= REMEMBERED_MAX:
            self._new, self._old = {}, self._new
        self._new[raw, decode_untrusted] = command

    def clear(self) -> None:
        self._new, self._old = {}, {}


REMEMBERED: Final = Remembered()


def written(command: Command, raw: bytes, decode_untrusted: Decode) -> None:
    """This agent has encoded it. Only what nearly all commands are is remembered: what decoding would give is sure there, to the
    type of each segment."""
    if command[3:] == _REST and command.value != NULL and {*map(type, command.path)} <= _SEGMENTS:
        REMEMBERED.put(raw, decode_untrusted, command)


def command_from_bytes_untrusted(raw: bytes, decode_untrusted: Decode) -> Command:
    """Raises Malformed."""
    command = REMEMBERED.get(raw, decode_untrusted)
    if command is None:
        command = _command_untrusted(decode_untrusted(raw))
        REMEMBERED.put(raw, decode_untrusted, command)
    return command


def _command_untrusted(value: object) -> Command:
    if type(value) is tuple and len(value) == 3:  # nearly all
        code, path, content = value
        if type(path) is tuple and type(content) is bytes and type(code) is int and code in _VERBS and path:
            try:
                return Command(_VERBS[code], parse_path(path), content)
            except PathError as error:
                raise Malformed(str(error)) from error
    if not isinstance(value, list | tuple) or not 2 <= len(value) <= 7:
        raise Malformed("a command is a verb, a path and what belongs to it")
    verb, path, *rest = value
    if type(verb) is not int or not isinstance(path, list | tuple):
        raise Malformed("a command has a verb and a path")
    for item, wanted in zip(rest, (bytes, bytes, int, int, (list, tuple)), strict=False):
        if isinstance(item, bool) or not isinstance(item, wanted):  # type: ignore[arg-type]
            raise Malformed("a command has another shape")
    if len(rest) == 5:
        rest[4] = _thought_from_value_untrusted(rest[4])
    try:
        command = Command(Verb(verb), parse_path(tuple(path)) if path else (), *rest)
    except (ValueError, PathError) as wrong:  # a name of its own: see tests/test_compiled.py
        raise Malformed(str(wrong)) from wrong
    if not command.path and command.verb is not Verb.DECIDE:
        raise Malformed("a command needs a path")
    if not 0 <= command.token < 1 << 64 or not 0 <= command.ttl < 1 << 64:
        raise Malformed("a number out of bounds")
    return command


def _thought_from_value_untrusted(value: list[object] | tuple[object, ...]) -> Thought:
    match value:
        case [str(intent), bytes(arguments), str(rationale), str(trace), bool(is_dangerous)]:
            if max(len(text.encode()) for text in (intent, rationale, trace)) > TEXT_BYTES_MAX:
                raise Malformed("a thought with too much text")
            return Thought(intent, arguments, rationale, trace, is_dangerous)
        case _:
            raise Malformed("a thought has another shape")
