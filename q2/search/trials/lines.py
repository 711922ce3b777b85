"""The lines of a trial store's segments: JSON with a checksum, so that damage is seen."""

import hashlib
import re

__all__ = ["checked", "digest", "line"]

_LINE = re.compile(rb'\{"sha256":"([0-9a-f]{16})","(trial|layers|options)":(.*)\}\n')


def digest(body: bytes) -> str:
    """Return 16 hex digits of the text's SHA-256."""
    return hashlib.sha256(body).hexdigest()[:16]


def line(kind: str, body: bytes) -> bytes:
    r"""Return the line of a record.

    >>> line("trial", b"{}")
    b'{"sha256":"44136fa355b3678a","trial":{}}\n'
    """
    return b'{"sha256":"%s","%s":%s}\n' % (digest(body).encode(), kind.encode(), body)


def checked(text: bytes) -> tuple[str, bytes] | None:
    """Return kind and text of the record in a line, or None if the line is not what was written.

    >>> checked(line("layers", b'["proj"]'))
    ('layers', b'["proj"]')
    """
    found = _LINE.fullmatch(text)
    if found is None or digest(found[3]).encode() != found[1]:
        return None
    return found[2].decode(), found[3]
