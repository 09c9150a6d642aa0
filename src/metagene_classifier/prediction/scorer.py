"""A stream of reads through a model, in fixed blocks, so that memory stays the same however long the stream is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from metagene_classifier.batching.batch import TokenBatch
from metagene_classifier.batching.framing import Framing, framing_for
from metagene_classifier.batching.micro_batches import Layout
from metagene_classifier.errors import DataError, EncoderError, ModelFolderError
from metagene_classifier.hub import encoder_config_for, is_local, resolve_encoder_folder
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.devices import choose_device, choose_dtypes
from metagene_classifier.model.dropout import TokenKeys
from metagene_classifier.model.encoder import EncoderSource, load_encoder
from metagene_classifier.model.packing import choose_layout
from metagene_classifier.model.saved import LoadedModel, find_model_folder, load_model
from metagene_classifier.model.scoring import score_reads
from metagene_classifier.reads.blocks import in_blocks
from metagene_classifier.reads.cleaning import CleaningCounts, clean_sequence
from metagene_classifier.reads.read import Read
from metagene_classifier.tokenization.choice import check_fits, choose_tokenizer, context_of, vocabulary_of
from metagene_classifier.tokenization.tokenizer import ReadTokenizer

__all__ = ["ScoredBlock", "Scorer", "StreamReport", "embedder_for", "open_model", "scorer_for", "token_budget"]

READS_PER_BLOCK = 4096
# Tokens of a micro-batch where nobody has said otherwise; measured by benchmarks/predict_throughput.py.
DEFAULT_MAX_TOKENS = {"cuda": 32768, "mps": 8192, "cpu": 2048}
LongReads = Literal["window", "truncate", "error"]


@dataclass
class StreamReport:
    """What was noticed while reads went by."""

    reads: int = 0
    empty: int = 0
    truncated: int = 0
    windowed: int = 0
    cleaning: CleaningCounts = field(default_factory=CleaningCounts)

    def lines(self) -> list[str]:
        """A line for each thing that a user should know."""
        told = [self.cleaning.summary()]
        if self.empty:
            told.append(f"{self.empty:,} reads without a base")
        if self.truncated:
            told.append(f"{self.truncated:,} reads cut to the model's context (long reads: truncate)")
        if self.windowed:
            told.append(f"{self.windowed:,} reads longer than the model's context, scored by windows")
        return [line for line in told if line]


@dataclass(frozen=True)
class ScoredBlock:
    """Reads of a stream, in order, with the model's values.

    Attributes:
        reads: as they stand in the file.
        bases: of each read after cleaning, 0 where none is known (nothing, or N alone); ``(reads,)``.
        values: ``(reads, width)`` float32; zeros for a read without a base.
    """

    reads: list[Read]
    bases: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scorer:
    """A model as a function of reads.

    Attributes:
        run: a batch to ``(segments, width)``.
        width: values of a read: classes, or the encoder's hidden size.
        tokenizer: the encoder's.
        framing: how tokens become segments.
        layout: how segments lie in a micro-batch.
        max_tokens: tokens of a micro-batch.
        device: the encoder's.
        long_reads: what happens to reads that do not fit one segment.
    """

    run: Callable[[TokenBatch], torch.Tensor]
    width: int
    tokenizer: ReadTokenizer
    framing: Framing
    layout: Layout
    max_tokens: int
    device: torch.device
    long_reads: LongReads

    def stream(self, reads: Iterable[Read], report: StreamReport) -> Iterator[ScoredBlock]:
        """Score reads block by block. When the reads raise, those before are scored and yielded first.

        Raises:
            DataError: a read is longer than the context and ``long_reads`` is ``error``.
        """
        for block in in_blocks(reads, READS_PER_BLOCK):
            yield self._score(block, report)

    def _score(self, block: list[Read], report: StreamReport) -> ScoredBlock:
        cleaned = [clean_sequence(read.sequence) for read in block]
        for read, sequence in zip(block, cleaned, strict=True):
            report.cleaning.add(read.sequence, sequence)
        bases = np.fromiter((len(one) if one.strip("N") else 0 for one in cleaned), np.int64, len(cleaned))
        present = np.flatnonzero(bases)
        tokens = self.tokenizer.encode_batch([cleaned[place] for place in present])
        for place, ids in enumerate(tokens):
            if len(ids) > self.framing.capacity:
                tokens[place] = self._long(block[present[place]], ids, report)
        report.reads += len(block)
        report.empty += len(block) - len(present)
        values = np.zeros((len(block), self.width), np.float32)
        if len(present):
            values[present] = score_reads(
                self.run,
                tokens,
                self.framing,
                width=self.width,
                max_tokens=self.max_tokens,
                layout=self.layout,
                device=self.device,
            )
        return ScoredBlock(block, bases, values)

    def _long(self, read: Read, ids: npt.NDArray[Any], report: StreamReport) -> npt.NDArray[Any]:
        if self.long_reads == "error":
            raise DataError(
                f"read {read.id} has {len(ids)} tokens and {self.framing.capacity} fit: "
                "shorten it, or use --long-reads window or truncate"
            )
        if self.long_reads == "truncate":
            report.truncated += 1
            return ids[: self.framing.capacity]
        report.windowed += 1
        return ids


def open_model(
    ckpt: str, *, device: str, device_map: str | None, trust_remote_code: bool, tell: Callable[[str], None]
) -> LoadedModel:
    """The trained model that ``--ckpt`` names.

    Raises:
        ModelFolderError: there is no trained model; the message says what is there instead.
    """
    folder = find_model_folder(Path(ckpt))
    if folder is None:
        raise ModelFolderError(_no_model_there(ckpt))
    return load_model(folder, device=device, device_map=device_map, tell=tell, trust_remote_code=trust_remote_code)


def scorer_for(model: LoadedModel, *, max_tokens: int | None, long_reads: LongReads | None, embed: bool) -> Scorer:
    """A trained model's class scores, or its embeddings."""
    facts = model.description
    return Scorer(
        run=model.classifier.embed if embed else model.classifier,
        width=facts.encoder.hidden_size if embed else len(facts.labels),
        tokenizer=model.tokenizer,
        framing=framing_for(model.tokenizer, facts.max_length, facts.window_overlap),
        layout=model.layout,
        max_tokens=max_tokens or DEFAULT_MAX_TOKENS[model.device.type],
        device=model.device,
        long_reads=long_reads or facts.long_reads,
    )


def token_budget(batch_size: int | None, max_tokens: int | None, max_length: int) -> int | None:
    """Tokens at once: as given, or those of ``batch_size`` reads of full length; ``None`` where neither was."""
    if max_tokens is not None or batch_size is None:
        return max_tokens
    return batch_size * max_length


def embedder_for(
    ckpt: str,
    *,
    revision: str | None,
    device: str,
    device_map: str | None,
    batch_size: int | None,
    max_tokens: int | None,
    long_reads: LongReads | None,
    trust_remote_code: bool,
    tell: Callable[[str], None],
) -> Scorer:
    """Embeddings from a trained model or, with its own tokenizer and mean pooling, from a bare encoder.

    Raises:
        MgcError: it is neither, or cannot be loaded.
    """
    if find_model_folder(Path(ckpt)) is not None:
        model = open_model(ckpt, device=device, device_map=device_map, trust_remote_code=trust_remote_code, tell=tell)
        budget = token_budget(batch_size, max_tokens, model.description.max_length)
        return scorer_for(model, max_tokens=budget, long_reads=long_reads, embed=True)
    tokenizer = choose_tokenizer(
        name_or_path=ckpt,
        use_hf_tokenizer=True,
        encoder=ckpt,
        revision=revision,
        encoder_is_new=False,
        add_bos=True,
        add_eos=True,
        trust_remote_code=trust_remote_code,
        tell=tell,
    )
    facts = encoder_config_for(ckpt, revision, trust_remote_code=trust_remote_code)
    context = context_of(facts)
    max_length = check_fits(
        tokenizer, vocab_size=vocabulary_of(facts, ckpt), context=context, max_length=context or 512, tell=tell
    )
    target = choose_device(device, tell)
    weights, compute = choose_dtypes(
        asked="auto", precision="bf16-mixed", device=target, encoder_learns=False, tell=lambda line: None
    )
    source = EncoderSource(ckpt, revision, trust_remote_code=trust_remote_code)
    encoder = load_encoder(source, dtype=weights, device=target, seed=0, device_map=device_map)
    layout = choose_layout(encoder, "auto", "auto", compute, target)
    width = int(encoder.config.hidden_size)
    classifier = ReadClassifier(
        encoder,
        hidden_size=width,
        classes=0,
        pooling="mean",
        dropout=0.0,
        keys=TokenKeys(),
        compute_dtype=compute,
    ).eval()
    return Scorer(
        run=classifier.embed,
        width=width,
        tokenizer=tokenizer,
        framing=framing_for(tokenizer, max_length, 0.125),
        layout=layout,
        max_tokens=token_budget(batch_size, max_tokens, max_length) or DEFAULT_MAX_TOKENS[target.type],
        device=target,
        long_reads=long_reads or "window",
    )


def _no_model_there(ckpt: str) -> str:
    """What stands where a trained model was expected, and what to do about it."""
    bare = (
        f"{ckpt} is an encoder without a head: it has no classes to call. Train one (mgc train --set "
        f"model.encoder_path={ckpt} …), or write its embeddings with 'mgc embed --ckpt {ckpt} …'"
    )
    path = Path(ckpt)
    if path.is_dir() or is_local(ckpt):
        try:
            resolve_encoder_folder(ckpt, weights=False)
        except EncoderError:
            return f"{ckpt} holds no trained model (no metagene_classifier.json in it, nor in best/ or last/)"
        return bare
    if path.exists():
        return f"{ckpt} is a file: give the trained model's folder"
    if ckpt.count("/") == 1 and not ckpt.startswith((".", "/", "~")) and not path.parent.exists():
        return f"{ckpt}: no such folder here; if the hub's encoder of that name is meant, {bare}"
    return f"{ckpt}: no such folder: give a trained model's folder, or the folder of the run that made it"
