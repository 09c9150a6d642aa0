"""One shard of a file's calls, with the facts that let it be joined with the others."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch

from metagene_classifier import __version__
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.model.devices import dtype_name
from metagene_classifier.model.quantization import Quantization
from metagene_classifier.model.saved import LoadedModel
from metagene_classifier.prediction.call import Call
from metagene_classifier.prediction.calling import Caller
from metagene_classifier.prediction.formats.csv_calls import CallsCsv
from metagene_classifier.prediction.reads import CallFile, call_reads
from metagene_classifier.prediction.scorer import ScoredBlock, Scorer
from metagene_classifier.prediction.shard_facts import (
    SCHEMA_VERSION,
    ShardFacts,
    model_digest,
    noticed_of,
    write_facts,
)
from metagene_classifier.prediction.shards import Census, Shard, shard_path
from metagene_classifier.prediction.source import ReadSource
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.whole_files import whole_file

__all__ = ["call_shard", "options_of"]


@dataclass
class _ShardCsv:
    """Writes a shard's CSV, and keeps what :mod:`merging` needs to join it with others.

    Attributes:
        header_bytes: of the first row.
        block_bytes: of the rows of each block.
    """

    path: Path
    text: CallsCsv
    header_bytes: int = 0
    block_bytes: list[int] = field(default_factory=list)
    digest: Any = field(default_factory=hashlib.sha256)
    _out: IO[str] | None = None

    @contextlib.contextmanager
    def opened(self) -> Iterator[_ShardCsv]:
        with whole_file(self.path, keep_partial=True) as self._out:
            self.header_bytes = self._written(self.text.header())
            yield self

    def write(self, block: ScoredBlock, calls: Sequence[Call]) -> None:
        """The rows of a block."""
        self.block_bytes.append(self._written(self.text.rows(calls)))

    def _written(self, text: str) -> int:
        assert self._out is not None
        self._out.write(text)
        self._out.flush()
        encoded = text.encode()
        self.digest.update(encoded)
        return len(encoded)


def call_shard(
    scorer: Scorer,
    model: LoadedModel,
    shard: Shard,
    caller: Caller,
    *,
    source: ReadSource,
    output: Path,
    probabilities: bool,
    quantization: Quantization,
    cpu_bf16: bool,
    block_reads: int,
    report: StreamReport,
) -> Path:
    """Write the calls of a shard's reads, and beside them what they were made of.

    Args:
        scorer: class scores.
        model: that they are of.
        shard: which blocks of reads.
        caller: calls them.
        source: the whole files; they are read to their end.
        output: of all shards; see :func:`shard_path`.
        probabilities: add a column for each class.
        quantization: that the encoder was loaded with.
        cpu_bf16: whether it computes in bfloat16 on a CPU.
        block_reads: reads of a block.
        report: filled on the way, with this shard's reads alone.

    Returns:
        The shard's CSV.

    Raises:
        MgcError: as :func:`call_reads`; a shard that broke off has no facts and is never joined.
    """
    csv = shard_path(output, shard)
    census = Census()
    written = _ShardCsv(csv, CallsCsv(caller.labels.names if probabilities else None, caller.tree))
    blocks = shard.own(census.watch(source.blocks(block_reads)))
    call_reads(
        scorer.stream_blocks(blocks, report),
        caller,
        [CallFile((csv,), written.opened)],
        first="this shard's first",
    )
    facts = ShardFacts(
        schema_version=SCHEMA_VERSION,
        package_version=__version__,
        shard=shard.number,
        shards=shard.count,
        input=source.name,
        input_reads=census.reads,
        input_sha256=census.digest,
        model=str(model.folder),
        model_sha256=model_digest(model.description),
        options={
            "long reads": scorer.long_reads,
            "probabilities": probabilities,
            "quantization": quantization,
            "--cpu-bf16": cpu_bf16,
            **options_of(scorer.strand, caller),
        },
        circumstances=_circumstances(scorer, model),
        block_reads=source.whole_pairs(block_reads),
        header_bytes=written.header_bytes,
        block_bytes=written.block_bytes,
        csv_sha256=written.digest.hexdigest(),
        noticed=noticed_of(report),
    )
    write_facts(csv, facts)
    return csv


def options_of(strand: str, caller: Caller) -> dict[str, str | bool | int | float]:
    """What decides the calls beside reads, model and scores, by the names that users know."""
    options = caller.options
    return {
        "paired": options.paired,
        "--strand": strand,
        "--confidence": options.threshold,
        "--closed-set": options.closed_set,
        "--min-tokens": options.min_tokens,
        "taxonomy": taxonomy_digest(caller.tree),
    }


def taxonomy_digest(tree: ClassTree) -> str:
    """Another text for every tree of classes; empty without a taxonomy."""
    if not tree.has_taxonomy:
        return ""
    rows = [[taxon.taxid, taxon.name, taxon.rank, taxon.parent] for taxon in tree.taxa]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def _circumstances(scorer: Scorer, model: LoadedModel) -> dict[str, str | int]:
    """What sums depend on in their last bits: the order in which a device adds up."""
    device = scorer.device
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        name = f"cpu {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    else:
        name = device.type
    return {
        "device": name,
        "arithmetic": dtype_name(model.classifier.compute_dtype),
        "tokens at once": scorer.budget.tokens,
        "layout": scorer.layout,
        "torch": torch.__version__,
        "version": __version__,
    }
