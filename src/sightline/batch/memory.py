"""Freed memory kept by the process: on a CPU half of an inference's time can go into asking the system for it anew."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as <malloc.h> numbers them
_MOST = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed instead of returning it, for the rest of this process; say whether it does.

    Layers' outputs are tens of megabytes each. By default glibc maps each anew, so that every page of it is cleared
    by the system and faulted in. It concerns the whole process, so that only those that are ours do it: the command
    line's and Ray's actors. Elsewhere than on Linux with glibc nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    return bool(library.mallopt(_MMAP_THRESHOLD, _MOST >> 1) and library.mallopt(_TRIM_THRESHOLD, _MOST))
