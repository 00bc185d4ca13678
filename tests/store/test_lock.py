"""One process per data directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.errors import ConfigError
from mesh.store.lock import DirectoryLock

HOLD = """
import pathlib, sys, time
from mesh.store.lock import DirectoryLock
lock = DirectoryLock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_another_process_is_named_and_the_lock_goes_with_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(
                ConfigError, match=rf"in use by process {holder.pid}: stop it, or give this node a data_dir of its own"
            ):
                DirectoryLock(tmp_path)
        finally:
            holder.send_signal(signal.SIGKILL)
    DirectoryLock(tmp_path).release()  # nothing stale is left behind


def test_one_process_cannot_open_it_twice(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    with pytest.raises(ConfigError, match="already open in this process"):
        DirectoryLock(tmp_path)
    lock.release()
    lock.release()
    DirectoryLock(tmp_path).release()


def test_whatever_stands_in_the_lock_file(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(b"\xff\xfe garbage that is longer than any pid")
    lock = DirectoryLock(tmp_path)
    assert (tmp_path / "lock").read_bytes().startswith(str(os.getpid()).encode() + b" ")
    lock.release()
