"""Names that are told from all others: digests of what they stand for."""

from __future__ import annotations

import hashlib

__all__ = ["content_digest", "digest", "item_digest"]


def digest(*parts: str) -> str:
    """Return 32 hexadecimal digits of the SHA-256 of some texts."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def item_digest(uri: str, size: int | None, stamp: str | None) -> str:
    """Return the digest by which an image is known again without reading it."""
    return digest(uri, str(size), str(stamp))


def content_digest(data: bytes) -> str:
    """Return 32 hexadecimal digits of the SHA-256 of a file's content."""
    return hashlib.sha256(data).hexdigest()[:32]
