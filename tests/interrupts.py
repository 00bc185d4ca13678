"""Ctrl-C and a hang-up for what tests start."""

from __future__ import annotations

import signal


def heed() -> None:
    """A shell starts what runs in the background of a script with SIGINT ignored, nohup starts it with SIGHUP ignored, and
    children inherit that: tests that send these to theirs would wait for ever. With a handler here, each child begins with
    the default."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _go_on)


def _go_on(number: int, frame: object) -> None:
    """What nohup promised these tests."""
