"""Files that hold keys: the one module of trust that touches a disk.

A key that others can read is no key, so a file of secrets must have mode 0600, and is refused otherwise rather than mended in
silence: somebody may have read it already. Files are replaced as a whole (written aside, fsync, rename, fsync of the
directory), so that a power cut leaves the old one or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mesh.errors import ConfigError
from mesh.store.durable import sync_directory

SECRET_MODE: Final = 0o600
PUBLIC_MODE: Final = 0o644
FILE_BYTES_MAX: Final = 16 << 20
"""Of any file read here: 10,000 members' statements have about 4 MB."""


def read_secret(path: Path) -> bytes:
    """The content of a file that only its owner may touch. Raises ConfigError, which names the file and the way out."""
    return _read(path, secret=True)


def read_public(path: Path) -> bytes:
    """The content of a file without secrets. Raises ConfigError."""
    return _read(path, secret=False)


def create_file(path: Path, content: bytes, mode: int) -> None:
    """Writes a file that must not be there yet. Raises ConfigError."""
    try:
        # Reserves the name, so that of two programs only one goes on. After a power cut it may be left empty, which loading
        # reports.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    except FileExistsError:
        raise ConfigError(
            f"{path} is there already: choose another directory, or move it away if it is no longer needed"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be created: {error.strerror}") from error
    replace_file(path, content, mode)


def replace_file(path: Path, content: bytes, mode: int) -> None:
    """Writes a file as a whole: afterwards it is as before or new, never in between. Raises ConfigError."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write_synced(aside, content, mode)
        try:
            os.replace(aside, path)
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def remove_file(path: Path) -> None:
    """Removes a file that is no longer needed. Raises ConfigError."""
    try:
        path.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise ConfigError(f"{path} cannot be removed: {error.strerror}") from error


def make_directory(path: Path) -> None:
    """A directory for keys, open to its owner only; one that is there is left as it is. Raises ConfigError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be made a directory: {error.strerror}") from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one program at a time goes on from here, by a lock on this file (made if missing). Raises ConfigError at once when
    taken."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, SECRET_MODE)
    except OSError as error:
        raise ConfigError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"another program is using {path.parent} (its lock {path.name} is taken): wait until it is done"
            ) from error
        yield
    finally:
        os.close(descriptor)


def _read(path: Path, *, secret: bool) -> bytes:
    try:
        # O_NONBLOCK: a pipe of that name must not hang us. The checks are on the open file, not on a name that may change
        # meanwhile.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: `mesh init` or `mesh join` makes it") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"{path} is not a regular file")
        mode = stat.S_IMODE(found.st_mode)
        if secret and mode & 0o077:
            raise ConfigError(f"{path} holds a secret key but has mode {mode:04o}, so others can use it: run `chmod 600 {path}`")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError(f"{path} is larger than {FILE_BYTES_MAX >> 20} MiB: it is not a file of this program")
    if not content:
        raise ConfigError(
            f"{path} is empty, as after a power cut while it was made: delete it and repeat the command that made it"
        )
    return content


def _write_synced(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # a umask may have taken bits of it
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
        raise
