"""Regression: in a test run that a script had put into the background, or nohup, children never heard of Ctrl-C or a hang-up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests import interrupts


@pytest.mark.parametrize(("number", "default"), [(signal.SIGINT, "default_int_handler"), (signal.SIGHUP, "SIG_DFL")])
def test_children_begin_with_the_default_however_the_tests_were_started(number: signal.Signals, default: str) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        interrupts.heed()
        program = f"import signal; print(signal.getsignal({int(number)}) is signal.{default})"
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    finally:
        signal.signal(number, before)
    assert said == "True\n"


def test_a_hang_up_does_not_end_tests_that_nohup_started() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        interrupts.heed()
        os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_who_handles_it_goes_on_doing_so(number: signal.Signals) -> None:
    def handler(*_: object) -> None: ...

    before = signal.signal(number, handler)
    try:
        interrupts.heed()
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)
