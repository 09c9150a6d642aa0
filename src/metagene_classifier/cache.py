"""What is kept on disk between runs to save time: entries under one root, each whole, described, and free to remove.

An entry is the folder ``<root>/<kind>/<key>/`` with an ``entry.json`` that says what it is. Nothing in here is needed:
whatever is gone is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from metagene_classifier.errors import OutputError
from metagene_classifier.whole_files import let_others_read

__all__ = [
    "CacheEntry",
    "cache_root",
    "caching_is_off",
    "clear",
    "entries",
    "entry_folder",
    "find_entry",
    "growing_entry",
    "mark_used",
    "what_is_damaged",
    "write_entry",
]

ENTRY_FILE = "entry.json"
FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Folders that are being written or removed; their names cannot be a kind or a key.
_PARTIAL = ".partial"


@dataclass(frozen=True)
class CacheEntry:
    """One entry as it stands on disk.

    Attributes:
        kind: what sort of thing it is, as in ``quantized``.
        key: of its inputs; another key for whatever would give another content.
        description: what it is, in words.
        bytes: of all its files.
        created: when it was begun, ISO 8601 in UTC; empty when ``entry.json`` is damaged.
        last_used: seconds since 1970.
        facts: what its maker wrote down.
        folder: where it is.
    """

    kind: str
    key: str
    description: str
    bytes: int
    created: str
    last_used: float
    facts: dict[str, Any]
    folder: Path


def cache_root() -> Path:
    """``MGC_CACHE``, or ``metagene-classifier`` in ``XDG_CACHE_HOME`` (``~/.cache`` by default); it may not exist."""
    named = os.environ.get("MGC_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser().absolute() / "metagene-classifier"


def caching_is_off() -> bool:
    """Whether ``MGC_NO_CACHE`` is set, to anything but ``0``: nothing is read from the cache or written to it."""
    return os.environ.get("MGC_NO_CACHE", "0") not in ("", "0")


def entry_folder(kind: str, key: str) -> Path:
    """Where an entry is, or would be.

    Raises:
        ValueError: ``kind`` or ``key`` is no plain name of letters, digits, ``.``, ``_`` and ``-``.
    """
    for name in (kind, key):
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a cache entry")
    return cache_root() / kind / key


def find_entry(kind: str, key: str) -> CacheEntry | None:
    """The entry, whole or damaged; ``None`` when there is none."""
    folder = entry_folder(kind, key)
    return _read(folder) if _is_entry(folder) else None


def entries() -> list[CacheEntry]:
    """All entries, by kind and key."""
    return [_read(folder) for folder in _entry_folders()]


def write_entry(kind: str, key: str, description: str, facts: dict[str, Any], write: Callable[[Path], None]) -> Path:
    """Let ``write`` fill a new folder, and make it the entry when it is whole; the first of several writers wins.

    Returns:
        The entry's folder.

    Raises:
        OutputError: it cannot be written; nothing of it is left.
    """
    folder = entry_folder(kind, key)
    new: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{key}.", suffix=_PARTIAL, dir=folder.parent))
        write(new)
        let_others_read(new)
        _write_entry_file(new, kind, key, description, facts, files=_digests(new))
        try:
            new.rename(folder)
        except OSError:
            if not _is_entry(folder):
                raise
            shutil.rmtree(new, ignore_errors=True)  # another process was first
    except BaseException as error:
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)
        if isinstance(error, OSError):
            raise OutputError(_cannot_write(folder, error.strerror or str(error))) from error
        raise
    return folder


def growing_entry(kind: str, key: str, description: str, facts: dict[str, Any]) -> Path:
    """The folder of an entry that its maker fills bit by bit, begun here if it is not there yet.

    Whether what is in it is whole, and who writes to it, is its maker's care.

    Raises:
        OutputError: it cannot be written.
    """
    folder = entry_folder(kind, key)
    if _is_entry(folder):
        mark_used(folder)
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_entry_file(folder, kind, key, description, facts, files=None)
    except OSError as error:
        raise OutputError(_cannot_write(folder, error.strerror or str(error))) from error
    return folder


def what_is_damaged(entry: CacheEntry) -> str | None:
    """The first file of an entry that is not the one written, by length and SHA-256; ``None`` when all are.

    Of a growing entry ``entry.json`` alone is looked at.
    """
    try:
        content = json.loads((entry.folder / ENTRY_FILE).read_text(encoding="utf-8"))
        files = dict(content["files"] or {})
        now = _digests(entry.folder) if files else {}
    except (OSError, ValueError, KeyError, TypeError):
        return ENTRY_FILE
    return next((name for name in files if now.get(name) != files[name]), None)


def mark_used(folder: Path) -> None:
    """Remember that an entry was used now; a cache that cannot be written forgets it."""
    try:
        os.utime(folder / ENTRY_FILE)
    except OSError:
        return


def clear(kind: str | None = None, key: str | None = None) -> int:
    """Remove entries: all, those of a kind, or one; with what broken-off writing left behind.

    Only folders with an ``entry.json`` go, links are neither followed nor removed, and nothing outside the root is
    touched.

    Returns:
        Bytes freed.

    Raises:
        OutputError: something cannot be removed.
    """
    chosen = [
        folder for folder in _entry_folders() if kind in (None, folder.parent.name) and key in (None, folder.name)
    ]
    if key is None:
        chosen += [
            folder
            for parent in _kind_folders()
            if kind in (None, parent.name)
            for folder in _folders_in(parent)
            if folder.name.startswith(".") and folder.name.endswith(_PARTIAL)
        ]
    return sum(_remove(folder) for folder in chosen)


def _remove(folder: Path) -> int:
    size = _bytes_of(folder)
    doomed = folder
    try:
        if not folder.name.endswith(_PARTIAL):  # so that at no moment half of it stands under its name
            doomed = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=_PARTIAL, dir=folder.parent))
            folder.rename(doomed)
        shutil.rmtree(doomed)
    except OSError as error:
        raise OutputError(f"cannot remove {folder} from the cache: {error.strerror or error}") from error
    return size


def _is_entry(folder: Path) -> bool:
    return not folder.is_symlink() and (folder / ENTRY_FILE).is_file()


def _entry_folders() -> list[Path]:
    return [
        folder
        for parent in _kind_folders()
        for folder in _folders_in(parent)
        if _NAME.fullmatch(folder.name) and _is_entry(folder)
    ]


def _kind_folders() -> list[Path]:
    return [folder for folder in _folders_in(cache_root()) if _NAME.fullmatch(folder.name)]


def _folders_in(folder: Path) -> list[Path]:
    """Folders, not links to any, in the order of their names."""
    try:
        with os.scandir(folder) as found:
            return sorted(Path(item.path) for item in found if item.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _read(folder: Path) -> CacheEntry:
    path = folder / ENTRY_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        description, created, facts = str(content["description"]), str(content["created"]), dict(content["facts"])
    except (OSError, ValueError, KeyError, TypeError):
        description, created, facts = f"damaged ({ENTRY_FILE})", "", {}
    try:
        last_used = path.stat().st_mtime
    except OSError:
        last_used = 0.0
    return CacheEntry(
        folder.parent.name, folder.name, description, _bytes_of(folder), created, last_used, facts, folder
    )


def _write_entry_file(
    folder: Path, kind: str, key: str, description: str, facts: dict[str, Any], files: dict[str, str] | None
) -> None:
    content = {
        "format": FORMAT,
        "kind": kind,
        "key": key,
        "description": description,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "facts": facts,
        "files": files,
    }
    partial = folder / f".{ENTRY_FILE}.{os.getpid()}"
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, folder / ENTRY_FILE)


def _digests(folder: Path) -> dict[str, str]:
    found = {}
    for path in _files_of(folder):
        if path.name != ENTRY_FILE:
            with open(path, "rb") as handle:
                digest = hashlib.file_digest(handle, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = f"{path.stat().st_size}:{digest}"
    return found


def _bytes_of(folder: Path) -> int:
    size = 0
    for path in _files_of(folder):
        try:
            size += path.lstat().st_size
        except OSError:  # removed meanwhile
            continue
    return size


def _files_of(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for name in sorted(names):
            yield Path(parent, name)


def _cannot_write(folder: Path, reason: str) -> str:
    return f"cannot write to the cache {folder.parent} ({reason}): set MGC_CACHE to a folder on another disk"
