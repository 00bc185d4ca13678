"""Inputs that once broke something, kept as small text files: every one is fed again by the tests.

# What was wrong, for whoever reads it.
target: line
7b2261223a31...        one input a line, in hex, in this order
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tools.fuzz.runner import feed_all
from tools.fuzz.subject import Target
from tools.fuzz.targets import TARGETS


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    about: str
    target: Target
    inputs: tuple[bytes, ...]

    def replay(self) -> None:
        """Raises what the inputs make it raise."""
        feed_all(self.target, self.inputs)


def load(path: Path) -> Case:
    """Raises ValueError, naming file and line."""
    about, target, inputs = [], None, []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip()
        if text.startswith("#"):
            about.append(text.removeprefix("#").strip())
        elif text.startswith("target:"):
            name = text.removeprefix("target:").strip()
            target = TARGETS.get(name)
            if target is None:
                raise ValueError(f"{path}:{number}: there is no target {name!r}")
        elif text or target is not None:
            inputs.append(_hex(path, number, text))
    if target is None or not inputs:
        raise ValueError(f"{path}: a case names its target and has an input")
    return Case(path.stem, " ".join(about), target, tuple(inputs))


def _hex(path: Path, number: int, text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"{path}:{number}: an input is written in hex") from None


def save(folder: Path, name: str, about: str, target: Target, inputs: tuple[bytes, ...]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.txt"
    comment = "".join(f"# {line}\n" for line in about.splitlines() or [""])
    path.write_text(f"{comment}target: {target.name}\n" + "".join(f"{data.hex()}\n" for data in inputs), encoding="utf-8")
    return path
