"""Other systems, run beside the mesh and measured by the same code. None is a dependency: what is not installed is said so."""

from __future__ import annotations

import importlib.util
import shutil


def missing_module(module: str, package: str) -> str | None:
    """How to install a Python peer that is not there; None when it is."""
    if importlib.util.find_spec(module) is not None:
        return None
    return f"not installed: pip install 'gossipmesh[bench]' (or {package})"


def missing_program(program: str, package: str) -> str | None:
    """The same for a Debian package."""
    return None if shutil.which(program) else f"not installed: apt-get install {package}"
