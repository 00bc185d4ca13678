"""Shell text as a shell would split it: simple commands, each a list of words, with what hides them taken away.

Quotes, backslashes, comments, pipes, lists, subshells, `$(...)` and backticks; and the programs that only run others (`sudo`,
`env`, `xargs`, `sh -c`, `ssh host` ...). Variables are not expanded.
"""

from __future__ import annotations

import re
from typing import Final

from consensus_escalation.expression import Budget

DEPTH_MAX: Final = 6
"""Of commands inside commands; deeper ones are not looked at, as a budget of steps ends the same way."""
_ENDS: Final = ";&|\n()"
_KEYWORDS: Final = frozenset({"then", "do", "else", "elif", "if", "while", "until", "!", "{", "}", "time"})
_SHELLS: Final = frozenset({"sh", "bash", "dash", "zsh", "ksh", "ash", "fish"})
_WRAPPERS: Final = {
    "sudo": "ugpChUrt",
    "doas": "uC",
    "nohup": "",
    "nice": "n",
    "ionice": "cnp",
    "env": "uCS",
    "exec": "a",
    "command": "",
    "builtin": "",
    "timeout": "sk",
    "xargs": "InPLsdE",
    "watch": "n",
    "busybox": "",
    "stdbuf": "ioe",
    "setsid": "",
    "chroot": "",
    "ssh": "bcDEeFIiJLlmOoPpQRSWw",
    "time": "fo",
    "flock": "wE",
}
"""Programs that run the rest of their words -> their options that take a word."""
_TAKES_ONE_WORD: Final = frozenset({"timeout", "chroot", "ssh", "flock"})
"""A duration, a root, a host or a file before the command."""
_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_DIGITS: Final = re.compile(r"[0-9]+")

Command = list[str]


def commands(budget: Budget, text: str, depth: int = DEPTH_MAX) -> list[Command]:
    """Every simple command in the text, the inner ones too. A redirection into a file is a command of its own: [">", file]."""
    budget.spend(1 + (len(text) >> 3))
    if depth == 0:
        return []
    found: list[Command] = []
    plain, inner = _split(text)
    for piece in inner:
        found += commands(budget, piece, depth - 1)
    for place, words in enumerate(plain):
        found += _unwrapped(budget, words, depth)
        if place and _program(words) in _SHELLS and len(words) <= 2 and _program(plain[place - 1]) in ("echo", "printf"):
            found += commands(budget, " ".join(plain[place - 1][1:]), depth - 1)  # echo '...' | sh
    return found


def _split(text: str) -> tuple[list[Command], list[str]]:
    """(simple commands, texts of substitutions)."""
    reader = _Reader(text)
    reader.read()
    return [words for words in reader.commands if words], reader.inner


class _Reader:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self.commands: list[Command] = [[]]
        self.inner: list[str] = []
        self._word: list[str] | None = None
        self._is_target = False

    def read(self) -> None:
        while self._at < len(self._text):
            letter = self._text[self._at]
            self._at += 1
            self._letter(letter)
        self._end_word()

    def _letter(self, letter: str) -> None:
        if letter == "\\":
            self._add(self._text[self._at : self._at + 1].replace("\n", ""))
            self._at += 1
        elif letter == "'":
            self._add(self._until("'"))
        elif letter == '"':
            self._double_quoted()
        elif letter == "`" or self._text.startswith("$(", self._at - 1):
            self._substitution(letter)
        elif letter == "#" and self._word is None:
            self._until("\n")
            self._end_command()
        elif letter in _ENDS:
            self._end_command()
        elif letter in "<>":
            self._redirection(letter)
        elif letter in " \t\r":
            self._end_word()
        else:
            self._add(letter)

    def _add(self, piece: str) -> None:
        self._word = [*(self._word or []), piece]

    def _until(self, end: str) -> str:
        stop = self._text.find(end, self._at)
        stop = len(self._text) if stop < 0 else stop
        piece, self._at = self._text[self._at : stop], stop + 1
        return piece

    def _double_quoted(self) -> None:
        self._add("")
        while self._at < len(self._text):
            letter = self._text[self._at]
            self._at += 1
            if letter == '"':
                return
            if letter == "\\" and self._text[self._at : self._at + 1] in ('"', "\\", "$", "`"):
                letter = self._text[self._at]
                self._at += 1
            elif letter == "`" or self._text.startswith("$(", self._at - 1):
                self._substitution(letter)
                continue
            self._add(letter)

    def _substitution(self, letter: str) -> None:
        if letter == "`":
            self.inner.append(self._until("`"))
        else:
            self._at += 1
            start, open_ = self._at, 1
            while self._at < len(self._text) and open_:
                open_ += {"(": 1, ")": -1}.get(self._text[self._at], 0)
                self._at += 1
            self.inner.append(self._text[start : self._at - 1 if not open_ else self._at])
        self._add("$()")

    def _redirection(self, letter: str) -> None:
        if self._word is not None and _DIGITS.fullmatch("".join(self._word)):
            self._word = None  # 2> file
        self._end_word()
        while self._text[self._at : self._at + 1] in (">", "|", "&", "<"):
            self._at += 1
        if letter == ">":
            self._is_target = True

    def _end_word(self) -> None:
        if self._word is not None:
            word = "".join(self._word)
            if self._is_target:
                self.commands.insert(len(self.commands) - 1, [">", word])
            else:
                self.commands[-1].append(word)
        self._word, self._is_target = None, False if self._word is not None else self._is_target

    def _end_command(self) -> None:
        self._end_word()
        self.commands.append([])


def _program(words: Command) -> str:
    return words[0].rsplit("/", 1)[-1].lower() if words else ""


def _unwrapped(budget: Budget, words: Command, depth: int) -> list[Command]:
    """The command without what only runs it; `sh -c TEXT` and `eval` are read as text."""
    while words:
        budget.spend()
        name = _program(words)
        if name in _KEYWORDS or _is_assignment(words[0]):
            words = words[1:]
        elif name in _SHELLS or name == "su":
            return _after_c(budget, words, depth)
        elif name == "eval":
            return commands(budget, " ".join(words[1:]), depth - 1)
        elif name in _WRAPPERS:
            inner = _without_options(words[1:], _WRAPPERS[name])
            inner = inner[1:] if name in _TAKES_ONE_WORD else inner
            if name == "ssh":
                return commands(budget, " ".join(inner), depth - 1)
            words = inner
        else:
            return [[name, *words[1:]]]
    return []


def _is_assignment(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and _NAME.fullmatch(name) is not None


def _without_options(words: Command, with_word: str) -> Command:
    while words and words[0].startswith("-") and len(words[0]) > 1:
        takes = not words[0].startswith("--") and words[0][-1] in with_word
        words = words[2:] if takes else words[1:]
    return words


def _after_c(budget: Budget, words: Command, depth: int) -> list[Command]:
    for place, word in enumerate(words[1:-1], 1):
        if word.startswith("-") and not word.startswith("--") and word.endswith("c"):
            return commands(budget, words[place + 1], depth - 1)
    return [[_program(words), *words[1:]]]
