"""The encoder run once over the reads, for a head that is trained alone; what is on disk already is not made again."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from metagene_classifier.batching.framing import Framing
from metagene_classifier.batching.micro_batches import Layout
from metagene_classifier.cache import cache_root, growing_entry
from metagene_classifier.console import progress
from metagene_classifier.errors import EncoderError, OutputError
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.out_of_memory import TokenBudget, release
from metagene_classifier.model.scoring import score_segments
from metagene_classifier.store.selection import Selection
from metagene_classifier.training.embeddings import EmbeddingFiles, StoredEmbeddings, windows_of
from metagene_classifier.training.interrupts import StopRequest

__all__ = ["KIND", "Embedder", "EmbeddingSource", "embed_once", "forget_weights"]

KIND = "embeddings"
# Raised whenever the files of an entry, or how their values are made, change.
FORMAT = 1
SECONDS_BETWEEN_LOOKS = 0.5
READS_AT_ONCE = 2**16  # whose tokens are hashed together
# Where bitsandbytes' layers keep their weights besides.
QUANTIZED_STATE = ("state", "quant_state")


@dataclass(frozen=True)
class EmbeddingSource:
    """What decides the embedding of a window, besides its tokens.

    Attributes:
        encoder: its name, for people.
        files: what tells its files from all others: see :func:`files_identity`.
        quantization: of its linear layers.
        weights_dtype: of its other weights.
        compute_dtype: of its arithmetic.
        pooling: of a window's hidden states.
        tokenizer: the tokenizer's fingerprint.
        framing: how reads become windows.
        turned: whether the reverse complement of each window is embedded in its place.
    """

    encoder: str
    files: str
    quantization: str
    weights_dtype: str
    compute_dtype: str
    pooling: str
    tokenizer: str
    framing: Framing
    turned: bool = False

    @property
    def facts(self) -> dict[str, Any]:
        """All of it but the name, in plain values."""
        return {
            "format": FORMAT,
            "files": self.files,
            "quantization": self.quantization,
            "weights_dtype": self.weights_dtype,
            "compute_dtype": self.compute_dtype,
            "pooling": self.pooling,
            "tokenizer": self.tokenizer,
            "prefix": list(self.framing.prefix),
            "suffix": list(self.framing.suffix),
            "max_length": self.framing.max_length,
            "overlap": self.framing.overlap,
            **({"turned": True} if self.turned else {}),
        }

    def key(self, reads: Selection) -> str:
        """Of the embeddings of these reads. Their classes do not matter: reads with new labels need no new ones."""
        store, numbers = reads.store, reads.numbers()
        ids, lengths = hashlib.sha256(), hashlib.sha256()
        for first in range(0, len(numbers), READS_AT_ONCE):
            tokens = store.tokens_of(numbers[first : first + READS_AT_ONCE])
            taken = [part[: self.framing.capacity] for part in tokens] if self.framing.first_only else tokens
            ids.update(np.concatenate(taken).astype(np.uint32).data)
            lengths.update(np.fromiter(map(len, taken), np.int64, len(taken)).data)
        facts = json.dumps(self.facts, sort_keys=True).encode()
        return hashlib.sha256(facts + ids.digest() + lengths.digest()).hexdigest()[:32]


@dataclass(frozen=True)
class Embedder:
    """An encoder that is to run once.

    Attributes:
        source: what decides its embeddings.
        classifier: embeds; its encoder is in evaluation mode.
        hidden: values of an embedding.
        budget: tokens of a micro-batch.
        layout: how windows lie in it.
        device: the encoder's.
        turn: from windows' tokens to those of their reverse complements, where these are embedded.
    """

    source: EmbeddingSource
    classifier: ReadClassifier
    hidden: int
    budget: TokenBudget
    layout: Layout
    device: torch.device
    turn: Callable[[list[npt.NDArray[Any]]], list[npt.NDArray[Any]]] | None = None

    def embed(self, reads: Sequence[npt.NDArray[Any]], done: Callable[[int], None]) -> npt.NDArray[np.float32]:
        """Embeddings of all windows of some reads, ``(windows, hidden)``.

        Args:
            reads: token ids of each, without special tokens.
            done: called after each micro-batch with the reads that began in it.

        Raises:
            EncoderError: the encoder gives no numbers.
            DeviceMemoryError: a single window does not fit in the device's memory.
        """
        framing = self.source.framing
        pieces = [framing.segments(tokens) for tokens in reads] if self.turn is None else self._turned(reads)
        is_first = np.concatenate([np.arange(len(piece)) == 0 for piece in pieces])
        values = score_segments(
            self.classifier.embed,
            [segment for piece in pieces for segment in piece],
            framing,
            width=self.hidden,
            budget=self.budget,
            layout=self.layout,
            device=self.device,
            done=lambda members: done(int(is_first[members].sum())),
        )
        if not np.isfinite(values).all():
            raise EncoderError(
                f"{self.source.encoder} gives embeddings that are no numbers in {self.source.compute_dtype}: set "
                "model.dtype: float32, or look whether its weights are whole"
            )
        return values

    def _turned(self, reads: Sequence[npt.NDArray[Any]]) -> list[list[npt.NDArray[np.int64]]]:
        """Segments of the reverse complement of each window of each read."""
        assert self.turn is not None
        framing = self.source.framing
        starts = [framing.starts(len(tokens)).tolist() for tokens in reads]
        windows = [
            tokens[start : start + framing.capacity]
            for tokens, of_read in zip(reads, starts, strict=True)
            for start in of_read
        ]
        turned = iter(self.turn(windows))
        return [[framing.frame(next(turned)) for _ in of_read] for of_read in starts]


def embed_once(
    sets: Mapping[str, Selection],
    embedder: Embedder,
    turning: Mapping[str, Embedder] | None = None,
    *,
    ranks: Any,
    tell: Callable[[str], None],
) -> dict[str, StoredEmbeddings]:
    """The embeddings of all windows of all reads, from the disk as far as they are there.

    Args:
        sets: reads by what they are for, as in ``training``.
        embedder: makes those that are not there.
        turning: the embedder of a set, by its name, where it is another one.
        ranks: accelerate's state: the processes of this machine that share the work.
        tell: called with lines for the user.

    Returns:
        By the names of ``sets``.

    Raises:
        OutputError: they do not fit on the disk, or cannot be written; what is written stays usable.
        EncoderError: the encoder gives no numbers.
        DeviceMemoryError: a single window does not fit in the device's memory.
        KeyboardInterrupt: a stop was asked for, which was told; whole blocks are kept.
    """
    embedders = {what: (turning or {}).get(what, embedder) for what in sets}
    with ExitStack() as stack:
        files = {}
        for what, reads in sets.items():
            if len(reads):
                files[what] = _open(what, reads, embedders[what], ranks, tell)
                stack.callback(files[what].close)
        ranks.wait_for_everyone()  # until every rank has looked for damage
        _check_space(files, tell)
        stop = StopRequest()
        with stop.watching():
            try:
                for what, entry in files.items():
                    _fill(entry, what, sets[what], embedders[what], ranks, stop, tell)
            except KeyboardInterrupt as stopped:
                tell("stopped while embedding: the blocks that are done are kept, the same command goes on from there")
                raise KeyboardInterrupt("while embedding") from stopped
        ranks.wait_for_everyone()
        framing = embedder.source.framing
        none = StoredEmbeddings(np.zeros((0, embedder.hidden), np.float32), windows_of(np.zeros(0, np.int64), framing))
        return {what: files[what].stored() if what in files else none for what in sets}


def forget_weights(encoder: torch.nn.Module, device: torch.device) -> None:
    """Give the memory of an encoder's weights back; what stays knows their names and shapes, and cannot run."""
    for module in encoder.modules():
        for name, weight in module.named_parameters(recurse=False):
            empty = torch.nn.Parameter(
                torch.empty(weight.shape, dtype=weight.dtype, device="meta"), requires_grad=False
            )
            module._parameters[name] = empty
        for name in QUANTIZED_STATE:
            if getattr(module, name, None) is not None:
                setattr(module, name, None)
    release(device)


def _open(what: str, reads: Selection, embedder: Embedder, ranks: Any, tell: Callable[[str], None]) -> EmbeddingFiles:
    source = embedder.source
    windows = windows_of(reads.store.lengths_of(reads.numbers()), source.framing)
    folder = growing_entry(
        KIND,
        source.key(reads),
        f"{len(reads):,} {what} reads embedded by {source.encoder}, {source.pooling} pooling",
        {**source.facts, "encoder": source.encoder, "reads": len(reads), "windows": int(windows.first[-1])},
    )
    entry = EmbeddingFiles(folder, windows, embedder.hidden)
    if entry.damaged:
        tell(f"the stored embeddings of the {what} reads in {folder} are damaged ({entry.damaged}): made again")
    mine = range(ranks.process_index, entry.blocks, ranks.num_processes)
    broken = entry.check(progress(mine, unit="block", label=f"checking stored {what} embeddings"))
    if broken:
        tell(f"the stored embeddings of the {what} reads in {folder} are damaged in {broken} blocks: made again")
    missing = entry.missing()
    if not missing:
        tell(f"{what}: using the stored embeddings of {entry.reads:,} reads, {folder}")
    elif len(missing) < entry.blocks:
        there = entry.reads - sum(len(entry.reads_of(block)) for block in missing)
        tell(f"{what}: the embeddings of {there:,} of {entry.reads:,} reads are stored already, {folder}")
    return entry


def _check_space(files: Mapping[str, EmbeddingFiles], tell: Callable[[str], None]) -> None:
    needed = {what: entry.bytes_missing() for what, entry in files.items() if entry.bytes_missing()}
    if not needed:
        return
    total = sum(needed.values())
    root = cache_root()
    free = shutil.disk_usage(root).free
    sizes = " and ".join(f"{_size(count)} for the {what} reads" for what, count in needed.items())
    if total > free:
        raise OutputError(
            f"the embeddings take {sizes}, and {_size(free)} are free on the disk of {root}: set MGC_CACHE to a folder "
            "on another disk, give fewer reads, or set MGC_NO_CACHE=1 to run the encoder in every epoch instead"
        )
    tell(f"the encoder runs once over the reads; the embeddings take {sizes} in {root} ({_size(free)} free)")


def _fill(
    entry: EmbeddingFiles,
    what: str,
    reads: Selection,
    embedder: Embedder,
    ranks: Any,
    stop: StopRequest,
    tell: Callable[[str], None],
) -> None:
    """Make blocks until none is missing, with the other processes that are at it."""
    missing = entry.missing()
    if not missing:
        return
    store, numbers = reads.store, reads.numbers()
    waiting = False
    started = time.monotonic()
    there = entry.reads - sum(len(entry.reads_of(block)) for block in missing)
    with progress(total=entry.reads, initial=there, unit="read", label=f"embedding {what} reads") as bar:

        def step(begun: int) -> None:
            bar.update(begun)
            if stop.asked_here:
                raise KeyboardInterrupt

        while missing:
            made = 0
            for block in missing:
                with entry.taken(block) as mine:
                    if mine:
                        rows = entry.reads_of(block)
                        tokens = store.tokens_of(numbers[rows.start : rows.stop])
                        entry.write(block, embedder.embed(tokens, step))
                        made += 1
            missing = entry.missing()
            if missing and not made:
                if not waiting and ranks.num_processes == 1:
                    tell(f"another process makes the last embeddings of the {what} reads: waiting for it")
                waiting = True
                time.sleep(SECONDS_BETWEEN_LOOKS)
                step(0)
            bar.n = entry.reads - sum(len(entry.reads_of(block)) for block in missing)
            bar.refresh()
    seconds = time.monotonic() - started
    made_reads = entry.reads - there
    tell(f"{what}: {made_reads:,} reads embedded in {seconds:.0f} s ({made_reads / max(seconds, 1e-9):.0f} reads/s)")


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1000:,.1f} kB"
