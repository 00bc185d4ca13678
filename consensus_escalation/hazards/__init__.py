"""What the shipped rules know about destructive commands: predicates for `consensus_escalation.expression`.

    shell     what a shell would be told to run, and whether that destroys something
    sql       statements that drop or empty
    safety    switching off what protects people: emergency stops, interlocks, alarms; opening valves

Each takes a budget first, then texts or words, and is pure: the same on every agent of one version. They recognise what is
*said*, also behind `sudo`, `sh -c`, quotes, variables and pipes. They are no sandbox: whoever wants to hide a command (encoded,
fetched, compiled) can. What an actuator does is the actuator's to guard.
"""

from __future__ import annotations

from typing import Final

from consensus_escalation.expression import Function
from consensus_escalation.hazards.safety import disables_safety, opens_valve
from consensus_escalation.hazards.shell import shell_destroys, shell_drastic
from consensus_escalation.hazards.sql import sql_destroys, sql_drastic

NAMES_AND_TEXTS: Final = ("intent", "segments", "value", "texts")
BY_WORDS: Final = frozenset({("disables_safety", *NAMES_AND_TEXTS), ("opens_valve", *NAMES_AND_TEXTS)})
"""Calls that say no where no name and no text `is_harmless` says no to is said."""

SHIPPED: Final[dict[str, Function]] = {
    "shell_destroys": shell_destroys,
    "shell_drastic": shell_drastic,
    "sql_destroys": sql_destroys,
    "sql_drastic": sql_drastic,
    "disables_safety": disables_safety,
    "opens_valve": opens_valve,
}
