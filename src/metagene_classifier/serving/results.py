"""Answers that are kept for a while, and the files that they can be had as."""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from metagene_classifier import __version__
from metagene_classifier.calling.confusion import Confusion
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.errors import ConfigError
from metagene_classifier.prediction.formats.fastq_out import SplitReads
from metagene_classifier.prediction.formats.registry import (
    FORMATS,
    check_format,
    open_reads,
    write_sample,
    write_table,
)
from metagene_classifier.prediction.formats.writing import FormatContext
from metagene_classifier.reads.labels import Labels
from metagene_classifier.serving.worker import Called

if TYPE_CHECKING:
    from metagene_classifier.prediction.profile.result import SampleResult

__all__ = ["SAMPLE", "Download", "Result", "ResultStore", "downloads"]

SAMPLE = "sample"
"""The name of every sample: none is taken from a request."""
BYTES_OF_A_CALL = 600
BOOTSTRAPS = 100
CLASSIFIED, UNCLASSIFIED = "classified-reads", "unclassified-reads"
_MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "krona-html": "text/html; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "biom": "application/octet-stream",
}


@dataclass(frozen=True)
class Download:
    """A file that a result can be had as.

    Attributes:
        name: in the address.
        what: one line for a user.
        file: the name that it is saved under.
        media_type: of HTTP.
        lacking: why this model cannot give it; empty where it can.
    """

    name: str
    what: str
    file: str
    media_type: str
    lacking: str = ""


def downloads(tree: ClassTree) -> dict[str, Download]:
    """Everything that a result of these classes can be had as, by name; also what it cannot, with the reason."""
    found = {}
    for name, one in FORMATS.items():
        try:
            check_format(name, tree)
            lacking = ""
        except ConfigError as error:
            lacking = str(error)
        media_type = _MEDIA_TYPES.get(name, "text/plain; charset=utf-8")
        found[name] = Download(name, one.what, f"{SAMPLE}{one.ending}", media_type, lacking)
    for name in (CLASSIFIED, UNCLASSIFIED):
        what = f"{name.replace('-', ' ')}, as they were sent"
        found[name] = Download(name, what, f"{name}.txt", "text/plain; charset=utf-8")
    return found


@dataclass(frozen=True, eq=False)
class Result:
    """The calls of one request.

    Attributes:
        id: random, and all that its owner needs.
        called: the calls.
        labels: the model's classes.
        tree: of them.
        paired: whether calls are of pairs.
        threshold: that a call had to reach; ``None`` in a closed set.
        confusion: of the model, where it has one.
        default_cut_offs: whether reads were refused as they were when its confusions were counted.
        ends: when it is forgotten, by the store's clock.
    """

    id: str
    called: Called
    labels: Labels
    tree: ClassTree
    paired: bool
    threshold: float | None
    confusion: Confusion | None
    default_cut_offs: bool
    ends: float

    @cached_property
    def size(self) -> int:
        """Of memory, about."""
        reads = [read for call in self.called.calls for read in call.reads]
        text = sum([len(read.header) + len(read.sequence) + len(read.qualities or "") for read in reads])
        return text + BYTES_OF_A_CALL * len(self.called.calls)

    @cached_property
    def sample(self) -> SampleResult:
        """Tally and profile."""
        from metagene_classifier.prediction.profile.estimate import estimate_profile
        from metagene_classifier.prediction.profile.result import SampleResult

        profile = estimate_profile(
            SAMPLE,
            self.called.tally,
            self.tree,
            self.confusion,
            bootstraps=BOOTSTRAPS,
            seed=0,
            default_cut_offs=self.default_cut_offs,
        )
        return SampleResult(SAMPLE, self.called.tally, self.tree, profile, "what was sent")

    def file_name(self, download: Download) -> str:
        """The name that a file of it is saved under."""
        if download.name not in (CLASSIFIED, UNCLASSIFIED):
            return download.file
        first = self.called.calls[0].reads[0]
        return f"{download.name}.{'fasta' if first.qualities is None else 'fastq'}"

    def file(self, download: Download) -> bytes:
        """A file of it.

        Raises:
            ConfigError: the model lacks what the format needs.
        """
        calls, name = self.called.calls, download.name
        # The writers know files alone; these have names of our own, in a folder of our own, and are gone at once.
        with tempfile.TemporaryDirectory(prefix="mgc-serve-") as folder:
            path = Path(folder) / "file"
            if name in (CLASSIFIED, UNCLASSIFIED):
                classified, unclassified = (path, None) if name == CLASSIFIED else (None, path)
                with SplitReads(classified, unclassified, self.paired) as reads:
                    reads.write(calls)
            elif FORMATS[name].kind == "read":
                context = FormatContext(
                    sample=SAMPLE,
                    labels=self.labels,
                    tree=self.tree,
                    paired=self.paired,
                    probabilities=False,
                    program=f"metagene-classifier {__version__}",
                )
                with open_reads(name, path, context) as writer:
                    writer.write(calls)
            elif FORMATS[name].kind == "sample":
                write_sample(name, path, self.sample)
            else:
                write_table(name, path, [self.sample])
            return path.read_bytes()


@dataclass(eq=False)
class ResultStore:
    """Results in memory: so many, so large and so long, the oldest forgotten first.

    Attributes:
        max_results: kept at once.
        max_bytes: of all of them, about; the newest stays whatever its size.
        keep_s: how long each is kept.
        clock: as :func:`time.monotonic`.
    """

    max_results: int
    max_bytes: int
    keep_s: float
    clock: Callable[[], float] = time.monotonic
    _results: OrderedDict[str, Result] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(
        self,
        called: Called,
        *,
        labels: Labels,
        tree: ClassTree,
        paired: bool,
        threshold: float | None,
        confusion: Confusion | None,
        default_cut_offs: bool,
    ) -> Result:
        """Keep calls under a new random id."""
        ends = self.clock() + self.keep_s
        key = secrets.token_urlsafe(24)
        result = Result(key, called, labels, tree, paired, threshold, confusion, default_cut_offs, ends)
        with self._lock:
            self._results[result.id] = result
            self._forget_old()
        return result

    def get(self, key: str) -> Result | None:
        """The result of an id; ``None`` where there is none, or none any more."""
        with self._lock:
            self._forget_old()
            return self._results.get(key)

    def remove(self, key: str) -> bool:
        """Forget a result; whether there was one."""
        with self._lock:
            return self._results.pop(key, None) is not None

    def forget_old(self) -> None:
        """Drop what is too old."""
        with self._lock:
            self._forget_old()

    def _forget_old(self) -> None:
        now = self.clock()
        held = sum(one.size for one in self._results.values())
        while self._results:
            oldest = next(iter(self._results.values()))
            too_many = len(self._results) > self.max_results
            too_large = held > self.max_bytes and len(self._results) > 1
            if oldest.ends > now and not too_many and not too_large:
                return
            held -= oldest.size
            del self._results[oldest.id]
