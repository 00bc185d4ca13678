"""The `mesh` console script. To import what it runs takes half a second, and Ctrl-C may come before anything handles it."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from tools.cli import main as run
    except KeyboardInterrupt:
        sys.exit("mesh: interrupted")
    run()
