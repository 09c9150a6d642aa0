"""``mgc cache``: what is kept on disk to save time, and its removal."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

import click

from metagene_classifier.console import say
from metagene_classifier.errors import ConfigError, nearest

if TYPE_CHECKING:
    from metagene_classifier.cache import CacheEntry

__all__ = ["command"]

UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


@click.group("cache")
def command() -> None:
    """List or remove what is kept on disk to save time: all of it is made again when it is needed.

    It lies in MGC_CACHE, or in metagene-classifier in XDG_CACHE_HOME (~/.cache). MGC_NO_CACHE=1 turns it off.
    """


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def _list(as_json: bool) -> None:
    """Print every entry: kind, key, what it is, size, and when it was last used."""
    from metagene_classifier.cache import cache_root, entries

    found = entries()
    if as_json:
        print(json.dumps([asdict(entry) | {"folder": str(entry.folder)} for entry in found], indent=2))
        return
    if not found:
        say(f"nothing is cached in {cache_root()}")
        return
    rows = [("kind", "key", "what", "size", "last used")]
    rows += [(entry.kind, entry.key, entry.description, _size(entry.bytes), _day(entry.last_used)) for entry in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    say(f"{_size(sum(entry.bytes for entry in found))} in {cache_root()}")


@command.command("clear")
@click.argument("key", required=False)
@click.option("--kind", default=None, help="Only entries of this kind, as 'mgc cache list' shows it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def _clear(key: str | None, kind: str | None, yes: bool) -> None:
    """Remove entries: all, those of a kind, or the one with this KEY (its beginning is enough)."""
    from metagene_classifier.cache import cache_root, clear, entries

    chosen = _chosen(entries(), kind, key)
    size = _size(sum(entry.bytes for entry in chosen))
    if chosen and not yes and not sys.stdin.isatty():
        raise ConfigError(f"this would remove {_counted(len(chosen))} ({size}): give --yes where nobody can be asked")
    if chosen and not yes:
        click.confirm(f"Remove {_counted(len(chosen))} ({size}) from {cache_root()}?", abort=True, err=True)
    freed = sum(clear(entry.kind, entry.key) for entry in chosen) if key else clear(kind)
    say(f"{_size(freed)} freed: {_counted(len(chosen))} removed from {cache_root()}")


def _chosen(found: list[CacheEntry], kind: str | None, key: str | None) -> list[CacheEntry]:
    """The entries that are meant.

    Raises:
        ConfigError: a kind or key that no entry has, or the beginning of several keys.
    """
    kinds = sorted({entry.kind for entry in found})
    if kind is not None and kind not in kinds:
        there_are = f"there are {', '.join(kinds)}" if kinds else "the cache is empty"
        raise ConfigError(f"--kind {kind}: nothing of that kind is cached{nearest(kind, kinds)}: {there_are}")
    chosen = [entry for entry in found if kind in (None, entry.kind)]
    if key is None:
        return chosen
    matching = [entry for entry in chosen if entry.key == key] or [
        entry for entry in chosen if key and entry.key.startswith(key)
    ]
    if not matching:
        raise ConfigError(f"{key}: no cached entry has this key: see 'mgc cache list'")
    if len(matching) > 1:
        names = ", ".join(f"{entry.kind} {entry.key}" for entry in matching)
        raise ConfigError(f"{key}: {len(matching)} entries begin so ({names}): give more of the key, or --kind")
    return matching


def _counted(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def _size(count: int) -> str:
    return next((f"{count / unit:.1f} {name}" for unit, name in UNITS if count >= unit), f"{count} B")


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
