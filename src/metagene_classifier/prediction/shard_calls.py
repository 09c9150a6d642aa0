"""One shard of a file's calls, with the facts that let it be joined with the others."""

from __future__ import annotations

from pathlib import Path

import torch

from metagene_classifier import __version__
from metagene_classifier.model.devices import dtype_name
from metagene_classifier.model.quantization import Quantization
from metagene_classifier.model.saved import LoadedModel
from metagene_classifier.prediction.reads import call_reads
from metagene_classifier.prediction.scorer import Scorer
from metagene_classifier.prediction.shard_facts import (
    SCHEMA_VERSION,
    ShardFacts,
    model_digest,
    noticed_of,
    write_facts,
)
from metagene_classifier.prediction.shards import Census, Shard, shard_path
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.reads.blocks import in_blocks
from metagene_classifier.reads.files import read_records

__all__ = ["call_shard"]


def call_shard(
    scorer: Scorer,
    model: LoadedModel,
    shard: Shard,
    *,
    source: str,
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
        source: the whole file; it is read to its end.
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
    blocks = shard.own(census.watch(in_blocks(read_records(source), block_reads)))
    written = call_reads(
        scorer.stream_blocks(blocks, report),
        model.description.label_table(),
        output=csv,
        probabilities=probabilities,
        first="this shard's first",
    )
    facts = ShardFacts(
        schema_version=SCHEMA_VERSION,
        package_version=__version__,
        shard=shard.number,
        shards=shard.count,
        input="standard input" if source == "-" else Path(source).name,
        input_reads=census.reads,
        input_sha256=census.digest,
        model=str(model.folder),
        model_sha256=model_digest(model.description),
        options={
            "long reads": scorer.long_reads,
            "probabilities": probabilities,
            "quantization": quantization,
            "--cpu-bf16": cpu_bf16,
        },
        circumstances=_circumstances(scorer, model),
        block_reads=block_reads,
        header_bytes=written.header_bytes,
        block_bytes=written.block_bytes,
        csv_sha256=written.sha256,
        noticed=noticed_of(report),
    )
    write_facts(csv, facts)
    return csv


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
