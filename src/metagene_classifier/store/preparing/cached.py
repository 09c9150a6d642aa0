"""Stores in the cache: made for a run by itself, kept for the next, and told apart by the content of their inputs."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from metagene_classifier.cache import caching_is_off, growing_entry
from metagene_classifier.errors import DataError
from metagene_classifier.reads.files import sequence_stem
from metagene_classifier.store.preparing.digests import input_facts
from metagene_classifier.store.preparing.prepare import prepare
from metagene_classifier.store.preparing.request import STDIN, PrepareRequest, identity_of
from metagene_classifier.store.tokens import TokenStore

__all__ = ["cached_store"]

KIND = "stores"
FORMAT = 1
POLL_S = 0.2


def cached_store(request: PrepareRequest, *, workers: int, tell: Callable[[str], None]) -> TokenStore:
    """The store of a request, from the cache or made into it; damaged shards are made again.

    With the cache off (``MGC_NO_CACHE``), or for standard input, it is made in a temporary folder that goes with the
    process. Under ``torchrun`` the first rank of each machine makes it, and the others wait for that.

    Args:
        request: what the store is to hold.
        workers: processes that parse and tokenize.
        tell: called with lines for the user.

    Raises:
        MgcError: as :func:`~metagene_classifier.store.preparing.prepare.prepare`.
    """
    passing = caching_is_off() or STDIN in map(str, request.files)
    alone = os.environ.get("LOCAL_WORLD_SIZE", "1") == "1"
    mark = None if alone else _mark(request)
    if mark is not None and os.environ.get("LOCAL_RANK", "0") != "0":
        return TokenStore.open(_waited_for(mark))
    if passing:
        folder = Path(tempfile.mkdtemp(prefix="mgc-store-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        store = prepare(request, folder, workers=workers, tell=tell)
    else:
        folder = _entry(request)
        store = prepare(request, folder, workers=workers, tell=tell, wait=True, quiet=True)
    if mark is not None:
        mark.parent.mkdir(mode=0o700, exist_ok=True)
        partial = mark.with_name(f"{mark.name}.{os.getpid()}")
        partial.write_text(str(folder), encoding="utf-8")
        os.replace(partial, mark)
        atexit.register(mark.unlink, missing_ok=True)
    return store


def _entry(request: PrepareRequest) -> Path:
    identity = identity_of(request)
    labelling = identity.labelling.model_dump(exclude={"strict_classes"})
    # The class of a read can be its file's name; otherwise the name does not matter.
    stems = [sequence_stem(path.name) for path in request.files] if request.labels_from == "filename" else []
    facts = {
        "format": FORMAT,
        "tokenizer": identity.tokenizer.fingerprint,
        "ids": str(request.tokenizer.ids_dtype),
        "labelling": labelling,
        "classes": request.labels.fingerprint(),
        "inputs": [input_facts(path).sha256 for path in request.files],
        "stems": stems,
        "read_ids": request.read_ids,
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    more = f" and {len(request.files) - 1} more" if len(request.files) > 1 else ""
    return growing_entry(KIND, key, f"tokens of {request.files[0]}{more} ({request.tokenizer.name})", facts)


def _mark(request: PrepareRequest) -> Path:
    """Where the first rank of a machine tells the others that the store of this request is ready, and where it is.

    All ranks of a machine have one parent, which is another for each launch; the request is told by what all ranks
    know without reading its files.
    """
    launcher = psutil.Process(os.getppid())
    began = round(launcher.create_time() * 1000)  # in a container every launch may have the same number
    launch = f"{launcher.pid}-{began}-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    asked = json.dumps([list(map(str, request.files)), request.tokenizer.fingerprint, request.labels.fingerprint()])
    name = f"{launch}-{hashlib.sha256(asked.encode()).hexdigest()[:16]}"
    return Path(tempfile.gettempdir()) / f"mgc-ready-{os.getuid()}" / name


def _waited_for(mark: Path) -> Path:
    parent = os.getppid()
    while True:
        with contextlib.suppress(OSError):
            if mark.stat().st_uid == os.getuid():  # the folder of temporary files is everybody's
                return Path(mark.read_text(encoding="utf-8"))
        if os.getppid() != parent:
            raise DataError("the launcher of this rank has ended while the reads were prepared")
        time.sleep(POLL_S)
