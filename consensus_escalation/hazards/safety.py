"""Switching off what protects people, and opening what lets something out.

Reads the words of intents, paths and short texts: `estop.disable`, `robots/7/safety/enabled` set to false, "bypass the
interlock". Triggering an emergency stop, closing a valve or reporting about either is harmless.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from consensus_escalation.expression import Budget, Undecided

WORDS_MAX: Final = 24
"""Longer texts are prose, not orders; a model or a person judges those."""
SHORT: Final = 40
"""Characters of a text that is a setting."""

_PROTECTORS: Final = {
    *("estop", "interlock", "safety", "failsafe", "watchdog", "alarm", "geofence", "guard", "guardrail", "lightcurtain"),
    *("deadman", "brake", "brakes", "smokedetector", "overcurrent", "overspeed", "lockout", "limiter", "sprinkler"),
    "killswitch",
}
_JOINED: Final = {
    ("e", "stop"): "estop",
    ("emergency", "stop"): "estop",
    ("fail", "safe"): "failsafe",
    ("light", "curtain"): "lightcurtain",
    ("dead", "man"): "deadman",
    ("smoke", "detector"): "smokedetector",
    ("kill", "switch"): "killswitch",
    ("shut", "down"): "shutdown",
    ("shut", "off"): "shutdown",
    ("turn", "off"): "shutdown",
    ("switch", "off"): "shutdown",
    ("power", "off"): "shutdown",
    ("turned", "off"): "shutdown",
    ("lock", "out"): "lockout",
}
_SWITCHES_OFF: Final = {
    *("disable", "disabled", "disarm", "bypass", "override", "defeat", "shutdown", "deactivate", "mute", "silence"),
    *("suppress", "suspend", "inhibit", "unplug", "jumper", "ignore", "remove", "kill", "off", "mask", "unlock"),
}
_ON_SWITCHES: Final = {"enabled", "armed", "active", "on", "enable", "arm", "engaged", "monitoring"}
_OFF_VALUES: Final = frozenset({"off", "disabled", "disarmed", "false", "inactive", "bypassed", "0", "no", "released"})
_TRIGGERED: Final = {"estop", "alarm", "brake", "brakes", "killswitch", "sprinkler", "lockout"}
"""False means that these are not triggered, not that they are switched off."""
_HARMLESS: Final = {
    *("report", "test", "read", "status", "log", "inspect", "check", "describe", "never", "not", "dont", "without"),
    "cannot",
}
_VALVES: Final = {"valve", "valves", "sluice", "floodgate", "hatch", "vent", "relief"}
_OPENS: Final = {"open", "opened", "opening", "release", "vent", "dump"}


@lru_cache(maxsize=4096)  # segments of paths come again and again; a miss costs 10 us, and there are several to an entry
def words_of(text: str) -> tuple[str, ...]:
    """Lower-case words, camelCase and the usual separators apart, and what belongs together as one."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", text.replace("'", ""))
    plain = [word for word in re.split(r"[^A-Za-z0-9]+", spaced.lower()) if word]
    found: list[str] = []
    for word in plain:
        joined = _JOINED.get((found[-1], word)) if found else None
        if joined:
            found[-1] = joined
        else:
            found.append(word)
    return tuple(found)


@lru_cache(maxsize=4096)
def is_harmless(text: str) -> bool:
    """Whether it names nothing of what this is about. Where neither path nor intent nor any text does, both predicates say no."""
    return _names_protector(text) is _names_valve(text) is False


@lru_cache(maxsize=4096)
def _names_protector(text: str) -> bool:
    return not _PROTECTORS.isdisjoint(words_of(text))


@lru_cache(maxsize=4096)
def _names_valve(text: str) -> bool:
    return not _VALVES.isdisjoint(words_of(text))


def disables_safety(budget: Budget, intent: str, path: Sequence[Any], value: Any, texts: Sequence[str]) -> bool:
    names = _names(budget, intent, path)
    if any(map(_names_protector, names)) and _switches_off(budget, _words(budget, names), value, texts):
        return True
    return any(_is_order(_words(budget, [text])) for text in texts if text)


def _switches_off(budget: Budget, named: Sequence[str], value: Any, texts: Sequence[str]) -> bool:
    """`named`: the words of a path and an intent that name a protector."""
    protectors = _PROTECTORS & set(named)
    if _HARMLESS & set(named):
        return False
    is_off = value is False or (type(value) is int and value == 0)
    if _SWITCHES_OFF & set(named) and not is_off:
        return True  # safety.bypass; estop/disabled = true
    if isinstance(value, str) and value.lower() in _OFF_VALUES:
        return True
    if is_off and (_ON_SWITCHES & set(named) or (named[-1] in protectors and named[-1] not in _TRIGGERED)):
        return True  # estop/enabled = false; robots/3/interlock = false
    # safety.set {"action": "disable"}
    return any(len(text) <= SHORT and bool(_SWITCHES_OFF & set(_words(budget, [text]))) for text in texts)


def _is_order(said: Sequence[str]) -> bool:
    words = set(said)
    return len(said) <= WORDS_MAX and bool(_PROTECTORS & words and _SWITCHES_OFF & words and not _HARMLESS & words)


def opens_valve(budget: Budget, intent: str, path: Sequence[Any], value: Any, texts: Sequence[str]) -> bool:
    names = _names(budget, intent, path)
    if any(map(_names_valve, names)):
        is_opened = isinstance(value, str) and bool(_OPENS & set(words_of(value)))
        return is_opened or bool(_OPENS & set(_words(budget, names)) and value is not False)
    return any(
        bool(_VALVES & said and _OPENS & said and not _HARMLESS & said)
        for text in texts
        if text and (said := set(_words(budget, [text])))
    )


def _names(budget: Budget, intent: str, path: Sequence[Any]) -> list[str]:
    """What an entry is about, whatever it says."""
    if not isinstance(intent, str):
        raise Undecided("an intent is text")
    names = [intent, *[segment for segment in path if isinstance(segment, str)]]
    budget.spend(len(names))
    return names


def _words(budget: Budget, texts: Sequence[str]) -> list[str]:
    found: list[str] = []
    for text in texts:
        if not isinstance(text, str):
            raise Undecided("not a text")
        budget.spend(1 + (len(text) >> 2))
        found += words_of(text)
    return found
