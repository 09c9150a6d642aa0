"""A stream in blocks, for work that is cheaper on many items at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["in_blocks"]

Item = TypeVar("Item")


def in_blocks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size`` items, the last one shorter. When ``items`` raises, what came before it is yielded first."""
    block: list[Item] = []
    iterator = iter(items)
    while True:
        try:
            block.append(next(iterator))
        except StopIteration:
            break
        except Exception:
            if block:
                yield block
            raise
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block
