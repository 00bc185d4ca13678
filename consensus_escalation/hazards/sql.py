"""SQL that drops or empties something. Whole statements only: "drop table 7 off at the kitchen" is no SQL."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from consensus_escalation.expression import Budget
from consensus_escalation.hazards.words import commands

_NAME: Final = r"[\"`\[]?[A-Za-z_]\w{0,63}[\"`\]]?(\.[\"`\[]?[A-Za-z_]\w{0,63}[\"`\]]?)?"
_NAMES: Final = rf"{_NAME}(\s*,\s*{_NAME}){{0,16}}"
_WHAT: Final = r"(DATABASE|SCHEMA|TABLE|TABLESPACE|KEYSPACE|COLLECTION|INDEX\s+\*)"
_ALWAYS_TRUE: Final = r"(1\s*=\s*1|TRUE|1|'(\w*)'\s*=\s*'\2')"


def _statement(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\s*{pattern}\s*", re.IGNORECASE | re.ASCII)


_DESTROYS: Final = [
    _statement(rf"DROP\s+{_WHAT}\s+(IF\s+EXISTS\s+)?{_NAMES}(\s+(CASCADE|RESTRICT|PURGE|WITH\s*\(\s*FORCE\s*\)))?"),
    _statement(rf"DROP\s+OWNED\s+BY\s+{_NAMES}(\s+CASCADE)?"),
    _statement(rf"TRUNCATE\s+(TABLE\s+)?(ONLY\s+)?{_NAMES}(\s+RESTART\s+IDENTITY)?(\s+CASCADE)?"),
    _statement(rf"DELETE\s+FROM\s+(ONLY\s+)?{_NAME}(\s+WHERE\s+{_ALWAYS_TRUE})?"),
]
_DRASTIC: Final = [
    _statement(rf"UPDATE\s+(ONLY\s+)?{_NAME}\s+SET\s+(?:(?!\bWHERE\b).){{1,400}}"),
    _statement(rf"ALTER\s+TABLE\s+(IF\s+EXISTS\s+)?{_NAME}\s+DROP\s+.{{1,200}}"),
    _statement(rf"DROP\s+(USER|ROLE|VIEW|INDEX)\s+(IF\s+EXISTS\s+)?{_NAMES}(\s+CASCADE)?"),
    _statement(r"GRANT\s+ALL(\s+PRIVILEGES)?\s+.{1,200}"),
]
_CLIENTS: Final = {"psql", "mysql", "mariadb", "sqlite3", "sqlcmd", "cqlsh", "duckdb", "clickhouse-client"}
_COMMENT: Final = re.compile(r"--[^\n]{0,600}|/\*.{0,600}?\*/", re.DOTALL)


def sql_destroys(budget: Budget, texts: Sequence[str]) -> bool:
    return any(_matches(budget, text, _DESTROYS) for text in texts)


def sql_drastic(budget: Budget, texts: Sequence[str]) -> bool:
    return any(_matches(budget, text, _DRASTIC) for text in texts)


def _matches(budget: Budget, text: str, patterns: Sequence[re.Pattern[str]]) -> bool:
    budget.spend_on(text)
    pieces = [text]
    if "'" in text or '"' in text:
        told = [command for command in commands(budget, text) if command[0] in _CLIENTS]
        pieces += [word for command in told for word in command[1:] if " " in word]
    for piece in pieces:
        for statement in _COMMENT.sub(" ", piece).split(";"):
            budget.spend(4 + (len(statement) >> 2))
            if any(pattern.fullmatch(statement.replace("\n", " ")) for pattern in patterns):
                return True
    return False
