"""The C library's heap while weights are loaded: what is freed goes back to the system at once."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import Any

__all__ = ["freed_at_once"]

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Blocks from this size on are mapped, each by itself, while weights are loaded.
MAPPED_BYTES = 2**20
# The highest that glibc's own, moving threshold climbs to; the trim threshold follows at twice that.
HIGHEST_BYTES = 2**25


@contextlib.contextmanager
def freed_at_once() -> Iterator[None]:
    """Keep glibc from holding on to the large temporary blocks that are freed inside.

    It raises the size from which on blocks are mapped whenever one is freed, up to 32 MiB. Temporary blocks then lie in
    the heap between the small ones that stay, and twice the model's own size was seen lost to such gaps. Inside, the
    threshold is 1 MiB; afterwards it is at its highest, where long computations take it anyway. With another C library,
    or with thresholds that the user has set, nothing is done.
    """
    library = _glibc()
    if library is None:
        yield
        return
    library.mallopt(_MMAP_THRESHOLD, MAPPED_BYTES)
    try:
        yield
    finally:
        library.mallopt(_MMAP_THRESHOLD, HIGHEST_BYTES)
        library.mallopt(_TRIM_THRESHOLD, 2 * HIGHEST_BYTES)
        library.malloc_trim(0)


def _glibc() -> Any | None:
    if any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return None
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - the symbol that only glibc has
        return library if library.mallopt and library.malloc_trim else None
    except (AttributeError, OSError, TypeError):
        return None
