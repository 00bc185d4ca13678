"""Binary things as one line of text, for files and for people to copy: `prefix` + base64url of content and checksum.

The checksum finds what was cut off or altered by accident; who means harm is stopped by the signatures inside.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from mesh.errors import ConfigError

CHECKSUM_BYTES: Final = 4


def armour(prefix: str, content: bytes) -> str:
    return prefix + base64.urlsafe_b64encode(content + _checksum(prefix, content)).decode().rstrip("=")


def unarmour(prefix: str, text: str, what: str) -> bytes:
    """The content again. White space, such as a line break from a terminal, is skipped. Raises ConfigError about `what`."""
    line = "".join(text.split())
    if not line.startswith(prefix):
        raise ConfigError(f"{what} does not begin with {prefix!r}: {_reason(prefix, line)}")
    encoded = line.removeprefix(prefix)
    try:
        decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(f"{what} is damaged: it has characters that do not belong there") from None
    content, checksum = decoded[:-CHECKSUM_BYTES], decoded[-CHECKSUM_BYTES:]
    if checksum != _checksum(prefix, content):
        raise ConfigError(f"{what} is damaged (wrong checksum): a part of it is missing or altered")
    return content


def _checksum(prefix: str, content: bytes) -> bytes:
    return hashlib.blake2b(prefix.encode() + content, digest_size=CHECKSUM_BYTES).digest()


def _reason(prefix: str, line: str) -> str:
    family = prefix.rstrip("-0123456789")
    if line.startswith(family) and line.removeprefix(family)[:1].isdigit():
        return "it was made by another version of this program"
    return "it is something else"
