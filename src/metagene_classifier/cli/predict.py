"""``mgc predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from metagene_classifier.cli.options import (
    calling_options,
    ckpt_option,
    device_option,
    long_reads_option,
    pair_options,
    quantization_option,
    scoring_memory_options,
    trust_option,
)

__all__ = ["command"]


@click.command("predict")
@click.option(
    "--input",
    "sources",
    multiple=True,
    help="FASTA or FASTQ, any compression; - is standard input. Several, each a sample, with --output-dir.",
)
@pair_options
@click.option(
    "--sample-sheet",
    type=click.Path(path_type=Path),
    default=None,
    help="CSV of samples: columns sample, R1 and R2 (R2 may be empty). With --output-dir.",
)
@ckpt_option
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=None,
    help="The calls, in the format that the ending says, else CSV; - is standard output.",
)
@click.option("--format", "format_name", default=None, help="Format of --output, whatever its ending.")
@click.option(
    "--write",
    "writes",
    multiple=True,
    metavar="FORMAT[=FILE]",
    help="A further format: csv, tsv, parquet, kraken, cami-binning, kraken-report, cami-profile, krona, krona-html, "
    "profile, biom or matrix. With --output-dir no FILE is needed.",
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder for the files of all samples, named by sample; csv, profile and matrix without --write.",
)
@click.option("--report", type=click.Path(path_type=Path), default=None, help="One HTML page over all samples.")
@click.option(
    "--classified-out",
    type=click.Path(path_type=Path),
    default=None,
    help="Reads that are called, as FASTQ or FASTA; # in the name stands for _1 and _2. With --output-dir the ending.",
)
@click.option(
    "--unclassified-out", type=click.Path(path_type=Path), default=None, help="Likewise the reads that are not called."
)
@click.option(
    "--windows",
    type=click.Path(path_type=Path),
    default=None,
    help="TSV of a call for each window of long reads. With --output-dir the ending.",
)
@calling_options
@click.option(
    "--bootstraps",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Samples drawn again for the intervals of abundances.",
)
@click.option(
    "--genome-lengths",
    type=click.Path(path_type=Path),
    default=None,
    help="TSV of taxid (or label) and genome length in bases: abundances in genomes instead of reads.",
)
@scoring_memory_options
@click.option("--probabilities", is_flag=True, help="Add a column prob_<label> for every class.")
@quantization_option
@long_reads_option
@device_option
@click.option("--device-map", type=click.Choice(["auto"]), default=None, help="Spread the encoder over all devices.")
@click.option(
    "--cpu-bf16",
    is_flag=True,
    help="Compute in bfloat16 on a CPU that has units for it: faster, in half the memory; scores shift a little.",
)
@trust_option
@click.option(
    "--shard",
    "shard_asked",
    metavar="I/N",
    default=None,
    help="Call the I-th of N shares of the reads alone, into calls.I-of-N.csv for --output calls.csv; see mgc merge.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="ray shares the reads out over a Ray cluster (that of RAY_ADDRESS, or this machine).",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=None,
    help="With --engine ray: how many hold the model; by default one a GPU, or one a machine without any.",
)
@click.option("--per-sample", is_flag=True, help="Input is a CSV of samples and sequences: one call per sample.")
@click.option(
    "--aggregation",
    type=click.Choice(["mean", "max", "sum"]),
    default="mean",
    show_default=True,
    help="How the probabilities of a sample's reads become its own.",
)
@click.option("--sample-column", default="sample", show_default=True, help="With --per-sample.")
@click.option("--sequence-column", default="sequence", show_default=True, help="With --per-sample.")
def command(
    sources: tuple[str, ...],
    input2: str | None,
    interleaved: bool,
    sample_sheet: Path | None,
    ckpt: str,
    output: Path | None,
    format_name: str | None,
    writes: tuple[str, ...],
    output_dir: Path | None,
    report: Path | None,
    classified_out: Path | None,
    unclassified_out: Path | None,
    windows: Path | None,
    confidence: float | None,
    target_precision: float | None,
    closed_set: bool,
    min_tokens: int | None,
    strand: Literal["single", "average"] | None,
    taxonomy: Path | None,
    bootstraps: int,
    genome_lengths: Path | None,
    batch_size: int | None,
    max_tokens: int | None,
    probabilities: bool,
    quantization: Literal["none", "int8", "nf4"] | None,
    long_reads: Literal["window", "truncate", "error"] | None,
    device: str,
    device_map: str | None,
    cpu_bf16: bool,
    trust_remote_code: bool,
    shard_asked: str | None,
    engine: str,
    workers: int | None,
    per_sample: bool,
    aggregation: str,
    sample_column: str,
    sequence_column: str,
) -> None:
    """Call the class of every read in a file, or the taxon of which it surely is.

    One row a read or pair, in input order: read_id, call, taxid, rank, confidence, length_bp, reason and, with a
    taxonomy, lineage.
    """
    from metagene_classifier.cli.predict_request import CsvOfSamples, Request
    from metagene_classifier.cli.predicting import predict

    predict(
        Request(
            sources=sources,
            input2=input2,
            interleaved=interleaved,
            sample_sheet=sample_sheet,
            ckpt=ckpt,
            output=output,
            format_name=format_name,
            writes=writes,
            output_dir=output_dir,
            report=report,
            classified_out=classified_out,
            unclassified_out=unclassified_out,
            windows=windows,
            confidence=confidence,
            target_precision=target_precision,
            closed_set=closed_set,
            min_tokens=min_tokens,
            strand=strand,
            taxonomy=taxonomy,
            bootstraps=bootstraps,
            genome_lengths=genome_lengths,
            batch_size=batch_size,
            max_tokens=max_tokens,
            probabilities=probabilities,
            quantization=quantization,
            long_reads=long_reads,
            device=device,
            device_map=device_map,
            cpu_bf16=cpu_bf16,
            trust_remote_code=trust_remote_code,
            shard=shard_asked,
            on_ray=engine == "ray",
            workers=workers,
            csv_of_samples=CsvOfSamples(aggregation, sample_column, sequence_column) if per_sample else None,
        )
    )
