"""``mgc embed``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from metagene_classifier.cli.options import (
    device_option,
    long_reads_option,
    quantization_option,
    scoring_memory_options,
    trust_option,
)
from metagene_classifier.console import say

__all__ = ["command"]


@click.command("embed")
@click.option("--ckpt", required=True, help="A trained model's folder, or an encoder: hub name or folder.")
@click.option("--revision", default=None, help="Of an encoder on the hub.")
@click.option("--input", "source", required=True, help="FASTA or FASTQ, any compression; - is standard input.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Ends in .npy, .parquet or .csv.")
@scoring_memory_options
@quantization_option
@long_reads_option
@device_option
@click.option("--device-map", type=click.Choice(["auto"]), default=None, help="Spread the encoder over all devices.")
@trust_option
def command(
    ckpt: str,
    revision: str | None,
    source: str,
    output: Path,
    batch_size: int | None,
    max_tokens: int | None,
    quantization: Literal["none", "int8", "nf4"] | None,
    long_reads: Literal["window", "truncate", "error"] | None,
    device: str,
    device_map: str | None,
    trust_remote_code: bool,
) -> None:
    """Write an embedding of every read: the mean of its tokens' last hidden states.

    .npy holds an array (reads, width), with the read ids in a text file beside it; .parquet and .csv hold both.
    """
    from metagene_classifier.cli.outputs import tell_stream
    from metagene_classifier.prediction.formats.embeddings import check_ending, files_of
    from metagene_classifier.whole_files import check_output_file

    check_ending(output)
    for path in files_of(output):
        check_output_file(path, [source])
    from metagene_classifier.prediction.embedding import embed_reads
    from metagene_classifier.prediction.opening import embedder_for
    from metagene_classifier.prediction.stream_report import StreamReport

    scorer = embedder_for(
        ckpt,
        revision=revision,
        device=device,
        device_map=device_map,
        quantization=quantization,
        batch_size=batch_size,
        max_tokens=max_tokens,
        long_reads=long_reads,
        trust_remote_code=trust_remote_code,
        tell=say,
    )
    report = StreamReport()
    embed_reads(scorer, source=source, output=output, report=report)
    tell_stream(report, f"{report.reads:,} embeddings", output)
