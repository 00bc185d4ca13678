"""Regression: in a test run that a script had put into the background, children never heard of Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys

from tests import interrupts


def test_children_begin_with_the_default_however_the_tests_were_started() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupts.heed()
        program = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    finally:
        signal.signal(signal.SIGINT, before)
    assert said == "True\n"


def test_who_handles_ctrl_c_goes_on_doing_so() -> None:
    def handler(*_: object) -> None: ...

    before = signal.signal(signal.SIGINT, handler)
    try:
        interrupts.heed()
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
