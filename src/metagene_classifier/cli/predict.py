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
@trust_option
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
    trust_remote_code: bool,
    per_sample: bool,
    aggregation: str,
    sample_column: str,
    sequence_column: str,
) -> None:
    """Call the class of every read in a file.

    One row a read, in input order: read_id, call, taxid, rank, confidence, length_bp, reason.
    """
    from metagene_classifier.cli.outputs import tell_stream
    from metagene_classifier.prediction.opening import open_model, scorer_for
    from metagene_classifier.prediction.scorer import StreamReport
    from metagene_classifier.whole_files import check_output_file

    if str(output) != "-":
        check_output_file(output, [source])
    model = open_model(
        ckpt,
        device=device,
        device_map=device_map,
        quantization=quantization,
        trust_remote_code=trust_remote_code,
        tell=say,
    )
    scorer = scorer_for(
        model, batch_size=batch_size, max_tokens=max_tokens, long_reads=long_reads, embed=False, tell=say
    )
    labels = model.description.label_table()
    report = StreamReport()
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
    from metagene_classifier.prediction.reads import call_reads

    call_reads(scorer, labels, source=source, output=output, probabilities=probabilities, report=report)
    tell_stream(report, f"{report.reads:,} reads", output)
