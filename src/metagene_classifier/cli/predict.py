"""``mgc predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from metagene_classifier.cli.options import (
    ckpt_option,
    device_option,
    long_reads_option,
    quantization_option,
    scoring_memory_options,
    trust_option,
)
from metagene_classifier.console import say

__all__ = ["command"]


@click.command("predict")
@click.option("--input", "source", required=True, help="FASTA or FASTQ, any compression; - is standard input.")
@ckpt_option
@click.option("--output", required=True, type=click.Path(path_type=Path), help="CSV; - is standard output.")
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
    source: str,
    ckpt: str,
    output: Path,
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
    """Call the class of every read in a file.

    One row a read, in input order: read_id, call, taxid, rank, confidence, length_bp, reason.
    """
    from metagene_classifier.cli.outputs import tell_stream
    from metagene_classifier.errors import ConfigError
    from metagene_classifier.prediction import scorer as scoring
    from metagene_classifier.prediction.opening import ScorerRecipe, folder_of
    from metagene_classifier.prediction.reads import call_reads
    from metagene_classifier.prediction.shard_facts import facts_path
    from metagene_classifier.prediction.shards import parse_shard, shard_path
    from metagene_classifier.prediction.stream_report import StreamReport
    from metagene_classifier.reads.files import read_records
    from metagene_classifier.whole_files import check_output_file

    shard = None if shard_asked is None else parse_shard(shard_asked)
    _check_together(shard is not None, on_ray=engine == "ray", per_sample=per_sample, workers=workers)
    if str(output) != "-":
        calls = output if shard is None else shard_path(output, shard)
        for path in [calls] if shard is None else [calls, facts_path(calls)]:
            check_output_file(path, [source])
    elif shard is not None:
        raise ConfigError("--shard writes two files, which mgc merge joins: name a file in --output")
    recipe = ScorerRecipe(
        folder=folder_of(ckpt).absolute(),
        device=device,
        device_map=device_map,
        quantization=quantization,
        batch_size=batch_size,
        max_tokens=max_tokens,
        long_reads=long_reads,
        trust_remote_code=trust_remote_code,
        cpu_bf16=cpu_bf16,
    )
    report = StreamReport()
    if engine == "ray":
        from metagene_classifier.prediction.on_ray import call_on_ray

        call_on_ray(
            recipe,
            workers=workers,
            source=source,
            output=output,
            probabilities=probabilities,
            block_reads=scoring.READS_PER_BLOCK,
            report=report,
            tell=say,
        )
        tell_stream(report, f"{report.reads:,} reads", output)
        return
    model, scorer = recipe.open(say)
    labels = model.description.label_table()
    if shard is not None:
        from metagene_classifier.prediction.shard_calls import call_shard

        written = call_shard(
            scorer,
            model,
            shard,
            source=source,
            output=output,
            probabilities=probabilities,
            quantization=quantization or model.description.encoder.quantization,
            cpu_bf16=cpu_bf16,
            block_reads=scoring.READS_PER_BLOCK,
            report=report,
        )
        tell_stream(report, f"{report.reads:,} reads of shard {shard}", written)
        return
    if per_sample:
        from metagene_classifier.prediction.samples import call_samples

        samples = call_samples(
            scorer,
            labels,
            source=source,
            output=output,
            aggregation=aggregation,
            sample_column=sample_column,
            sequence_column=sequence_column,
            probabilities=probabilities,
            report=report,
        )
        tell_stream(report, f"{samples:,} samples", output)
        return
    call_reads(scorer.stream(read_records(source), report), labels, output=output, probabilities=probabilities)
    tell_stream(report, f"{report.reads:,} reads", output)


def _check_together(sharded: bool, *, on_ray: bool, per_sample: bool, workers: int | None) -> None:
    """Refuse options that do not go together."""
    from metagene_classifier.errors import ConfigError

    if per_sample and (sharded or on_ray):
        raise ConfigError("--per-sample needs all reads of a sample in one place: leave --shard and --engine ray out")
    if sharded and on_ray:
        raise ConfigError("--engine ray shares the reads out by itself: leave --shard out")
    if workers is not None and not on_ray:
        raise ConfigError("--workers is for --engine ray")
