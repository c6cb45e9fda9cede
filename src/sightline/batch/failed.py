"""Which images a store holds as failed, and have not come right since."""

from __future__ import annotations

from collections.abc import Collection

from sightline.batch.store import Store

__all__ = ["failed_images"]


def failed_images(store: Store, asks: Collection[str]) -> int:
    """Return how many images failed by some asks, without those that a later commit lists anew."""
    failed: set[str] = set()
    for commit in store.commits:
        if not set(commit.asks) & set(asks):
            continue
        if failed:
            failed -= set(store.part(commit.images, ["image"])["image"].to_pylist())
        for name in commit.explanations if commit.failed else ():
            rows = store.part(name, ["image", "error"])
            failed |= set(rows.filter(rows["error"].is_valid())["image"].to_pylist())
    return len(failed)
