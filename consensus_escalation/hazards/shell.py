"""Whether a text, run by a shell, destroys what nobody can bring back, or does something drastic.

*Destroys* is refused by the shipped rules, *drastic* is of the dangerous class. `rm -rf ./build` is neither.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from posixpath import normpath
from typing import Final

from consensus_escalation.expression import Budget
from consensus_escalation.hazards.words import Command, commands

_TOP: Final = {
    *(
        "bin",
        "boot",
        "data",
        "dev",
        "etc",
        "home",
        "lib",
        "lib32",
        "lib64",
        "library",
        "media",
        "mnt",
        "opt",
        "proc",
        "root",
        "run",
    ),
    *("sbin", "srv", "sys", "system", "users", "usr", "var"),
}
_HARMLESS_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/stdout", "/dev/stderr", "/dev/tty", "/dev/fd", "/dev/pts", "/dev/shm")
_MAIN_BRANCHES: Final = frozenset({"main", "master", "trunk", "develop", "release", "production"})
_FORK_BOMB: Final = re.compile(r"([:\w]{1,32})\(\)\{\1\|\1&\};?\1", re.ASCII)
_WINDOWS: Final = re.compile(
    r"(^|[&|;\s])(format(\.com)?\s+[a-z]:(\s+/[a-z:]+)*\s*$"
    r"|(rd|rmdir)\s+[^&|;]{0,40}/s[^&|;]{0,40}\s[a-z]:\\?(\s|\*|$)"
    r"|del\s+[^&|;]{0,40}/s[^&|;]{0,40}\s[a-z]:\\(\s|\*|$)"
    r"|remove-item\s[^&|;]{0,80}-recurse[^&|;]{0,80}\s[a-z]:\\?(\s|\*|$))",
    re.IGNORECASE | re.ASCII,
)

_NAMED: Final = re.compile(r"\$\{?\w+\}?/?\*?|\$\{?\w+\}?/\*?|~\w*/?\*?", re.ASCII)
_HOME: Final = re.compile(r"\$\{?HOME\b|~", re.ASCII)


def shell_destroys(budget: Budget, texts: Sequence[str]) -> bool:
    return any(_found(budget, text, _destroys) or _destroys_as_a_whole(budget, text) for text in texts)


def shell_drastic(budget: Budget, texts: Sequence[str]) -> bool:
    return any(_found(budget, text, _is_drastic) or _runs_what_it_fetched(budget, text) for text in texts)


def _found(budget: Budget, text: str, test: Callable[[Command], bool]) -> bool:
    for command in commands(budget, text):
        budget.spend(len(command))
        if test(command):
            return True
    return False


def _destroys_as_a_whole(budget: Budget, text: str) -> bool:
    budget.spend_on(text)
    return bool(_FORK_BOMB.search(re.sub(r"\s", "", text, flags=re.ASCII)) or _WINDOWS.search(text))


def _runs_what_it_fetched(budget: Budget, text: str) -> bool:
    """curl ... | sh"""
    budget.spend_on(text)
    programs = [command[0] for command in commands(budget, text)]
    shells = {"sh", "bash", "dash", "zsh", "ksh", "python", "python3", "perl"}
    return any(one in ("curl", "wget", "fetch") and other in shells for one, other in pairwise(programs))


# ---- what is vital


def _is_vital(target: str) -> bool:
    """A whole system, a home, or what nobody can tell: an empty variable makes `$DIR/` the root."""
    bare = re.sub(r"/?\*$", "", target) if target not in ("*", "/*") else target.rstrip("*")
    if target in ("*", ".*", ".", "..", "./", "../", "./*", "../*", "~", "~/", "~/*"):
        return True
    if _NAMED.fullmatch(target):
        return target.endswith(("/", "/*")) or bool(_HOME.match(target))
    if not bare.startswith("/"):
        return target in ("/", "/*")
    parts = [part for part in normpath("/" + bare.strip("/")).lower().split("/") if part]
    if len(parts) <= 1:
        return not parts or parts[0] in _TOP
    return len(parts) == 2 and (parts[0] in ("home", "usr", "users") or parts == ["var", "lib"])


def _is_disk(target: str) -> bool:
    path = normpath(target) if target.startswith("/") else ""
    return path.startswith("/dev/") and not path.startswith(_HARMLESS_DEVICES)


def _options(words: Command) -> set[str]:
    """Short options one by one, long ones without their value."""
    found: set[str] = set()
    for word in words:
        if word.startswith("--"):
            found.add(word.split("=", 1)[0])
        elif word.startswith("-"):
            found |= set(word[1:])
    return found


def _targets(words: Command) -> list[str]:
    return [word for word in words if not word.startswith("-") or word == "-"]


# ---- program by program


def _rm(words: Command) -> bool:
    options = _options(words)
    is_whole = bool(options & {"r", "R", "--recursive", "--no-preserve-root"})
    return "--no-preserve-root" in options or (is_whole and any(map(_is_vital, _targets(words))))


def _find(words: Command) -> bool:
    deletes = "-delete" in words or ("-exec" in words and any(word.rsplit("/", 1)[-1] in ("rm", "shred") for word in words))
    starts = []
    for word in words:
        if word.startswith("-"):
            break
        starts.append(word)
    narrows = any(
        word in ("-name", "-iname", "-path", "-mtime", "-user", "-size", "-empty", "-newer", "-regex") for word in words
    )
    return deletes and any(_is_vital(start) for start in starts) and (not narrows or "/" in starts)


def _whole_tree(words: Command) -> bool:
    """chmod, chown, chgrp: the first target is the mode or owner."""
    return bool(_options(words) & {"R", "--recursive"}) and any(map(_is_vital, _targets(words)[1:]))


def _mv(words: Command) -> bool:
    targets = _targets(words)
    return len(targets) > 1 and (targets[-1] == "/dev/null" or any(map(_is_vital, targets[:-1])))


def _git(words: Command) -> bool:
    if "push" not in words:
        return False
    rest = words[words.index("push") + 1 :]
    options, targets = _options(rest), _targets(rest)
    deletes = "--delete" in options or "d" in options
    return (
        bool(options & {"f", "--force", "--mirror"})
        or any(target.startswith("+") for target in targets[1:])
        or any(target[1:] in _MAIN_BRANCHES for target in targets[1:] if target.startswith(":"))
        or (deletes and any(target in _MAIN_BRANCHES for target in targets[1:]))
    )


def _first(*verbs: str) -> Callable[[Command], bool]:
    return lambda words: any(word.lower() in verbs for word in words[:4])


def _always(words: Command) -> bool:
    """Unless it only explains itself."""
    return bool(words) and not _options(words) & {"--help", "--version", "-h", "V"}


def _verb(words: Command, with_word: str) -> str:
    """The first word that is no option, nor belongs to one."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        at += 2 if words[at][1:2] in with_word and len(words[at]) == 2 else 1
    return words[at] if at < len(words) else ""


def _on_disk(words: Command) -> bool:
    return any(map(_is_disk, _targets(words)))


_DESTROYERS: Final[dict[str, Callable[[Command], bool]]] = {
    "rm": _rm,
    "find": _find,
    "chmod": _whole_tree,
    "chown": _whole_tree,
    "chgrp": _whole_tree,
    "mv": _mv,
    "git": _git,
    "dd": lambda words: any(word.startswith("of=") and _is_disk(word[3:]) for word in words),
    ">": _on_disk,
    "tee": _on_disk,
    "cp": lambda words: _is_disk(words[-1]) if words else False,
    "shred": lambda words: _on_disk(words) or any(map(_is_vital, _targets(words))),
    "mkswap": _on_disk,
    "wipefs": lambda words: bool(_options(words) & {"a", "o", "--all", "--offset"}),
    "blkdiscard": _always,
    "parted": _first("mklabel", "mkpart", "rm", "mktable"),
    "sfdisk": lambda words: _on_disk(words) and not _options(words) & {"l", "d", "--list", "--dump"},
    "fdisk": lambda words: _on_disk(words) and not _options(words) & {"l", "--list"},
    "sgdisk": lambda words: bool(_options(words) & {"Z", "z", "o", "--zap-all", "--zap", "--clear"}),
    "hdparm": lambda words: any("erase" in option for option in _options(words)),
    "nvme": _first("format", "sanitize"),
    "cryptsetup": _first("luksformat", "erase", "lukserase"),
    "lvremove": _always,
    "vgremove": _always,
    "pvremove": _always,
    "zpool": _first("destroy", "labelclear"),
    "zfs": _first("destroy"),
    "mdadm": lambda words: "--zero-superblock" in words,
    "kill": lambda words: "-1" in words[1:] or (bool(words) and words[-1] in ("-1", "1")),
    "dropdb": _always,
    "mysqladmin": _first("drop"),
    "redis-cli": lambda words: _verb(words, "hpanus").lower() in ("flushall", "flushdb"),
}


def _destroys(command: Command) -> bool:
    program, words = command[0], command[1:]
    if program.startswith("mkfs") or program in ("mke2fs", "newfs"):
        return _always(words)
    if any("dropdatabase()" in word.lower() for word in words):
        return True
    test = _DESTROYERS.get(program)
    return test is not None and test(words)


_DRASTIC: Final[dict[str, Callable[[Command], bool]]] = {
    "shutdown": lambda words: "-c" not in words,
    "reboot": _always,
    "poweroff": _always,
    "halt": _always,
    "init": lambda words: words[:1] in (["0"], ["6"]),
    "telinit": lambda words: words[:1] in (["0"], ["6"]),
    "systemctl": _first("poweroff", "reboot", "halt", "kexec", "stop", "disable", "mask"),
    "service": lambda words: "stop" in words,
    "iptables": lambda words: bool(_options(words) & {"F", "X", "--flush"}),
    "nft": _first("flush", "delete"),
    "ufw": _first("disable", "reset"),
    "setenforce": lambda words: words[:1] in (["0"], ["Permissive"]),
    "crontab": lambda words: "r" in _options(words),
    "userdel": _always,
    "kubectl": lambda words: "delete" in words or "drain" in words,
    "helm": _first("uninstall", "delete"),
    "terraform": _first("destroy"),
    "docker": lambda words: "prune" in words or ("rm" in words and bool(_options(words) & {"f", "--force", "v"})),
    "aws": lambda words: "delete" in " ".join(words[:3]) or "rb" in words or ("rm" in words and "--recursive" in words),
    "git": lambda words: (
        "push" in words
        and bool(_options(words) & {"--force-with-lease", "--delete", "d"} or any(w.startswith(":") for w in words))
    ),
    "rm": lambda words: bool(_options(words) & {"r", "R", "--recursive"}) and any(w.startswith("/") for w in _targets(words)),
}


def _is_drastic(command: Command) -> bool:
    test = _DRASTIC.get(command[0])
    return test is not None and test(command[1:])
