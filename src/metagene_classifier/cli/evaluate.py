"""``mgc evaluate``."""

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


@click.command("evaluate")
@ckpt_option
@click.option("--input", "sources", multiple=True, help="Labelled reads: a file or a folder; may be given repeatedly.")
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    default=None,
    help="Instead of --input: the file that the model's own configuration names.",
)
@click.option("--output-dir", required=True, type=click.Path(path_type=Path), help="For metrics, tables and report.")
@click.option(
    "--labels-from",
    type=click.Choice(["header", "tsv", "filename"]),
    default=None,
    help="Where a read's class stands; as in training by default.",
)
@click.option("--labels-tsv", default=None, help="Table of read id and class (with --labels-from tsv).")
@click.option("--skip-unknown", is_flag=True, help="Skip and count reads whose class the model does not have.")
@scoring_memory_options
@quantization_option
@long_reads_option
@device_option
@trust_option
def command(
    ckpt: str,
    sources: tuple[str, ...],
    split: str | None,
    output_dir: Path,
    labels_from: str | None,
    labels_tsv: str | None,
    skip_unknown: bool,
    batch_size: int | None,
    max_tokens: int | None,
    quantization: Literal["none", "int8", "nf4"] | None,
    long_reads: Literal["window", "truncate", "error"] | None,
    device: str,
    trust_remote_code: bool,
) -> None:
    """Score a trained model on labelled reads.

    Writes metrics.json, per_class.csv, confusion_matrix.csv and .png, predictions.csv and report.html.
    """
    from metagene_classifier.errors import ConfigError, OutputError

    if output_dir.exists() and not output_dir.is_dir():
        raise OutputError(f"--output-dir {output_dir} is a file: name a folder")
    if bool(sources) == bool(split):
        raise ConfigError("say what to evaluate on: either --input FILE or --split train|val|test")
    from metagene_classifier.prediction.evaluation import evaluate_model, labelled_input
    from metagene_classifier.prediction.opening import open_model, scorer_for
    from metagene_classifier.report.evaluation import EVALUATION_FILES, write_evaluation
    from metagene_classifier.whole_files import check_output_file

    model = open_model(
        ckpt, device=device, device_map=None, quantization=quantization, trust_remote_code=trust_remote_code, tell=say
    )
    scorer = scorer_for(
        model, batch_size=batch_size, max_tokens=max_tokens, long_reads=long_reads, embed=False, tell=say
    )
    files, dataset, chosen = labelled_input(
        model, sources=sources, split=split, labels_from=labels_from, labels_tsv=labels_tsv
    )
    for name in EVALUATION_FILES:
        check_output_file(output_dir / name, [*files, *filter(None, [dataset.labels_tsv])])
    evaluation = evaluate_model(
        scorer,
        model.description.label_table(),
        files=files,
        dataset=dataset,
        strict=not skip_unknown,
        predictions=output_dir / "predictions.csv",
        compute_auroc=chosen.compute_auroc,
    )
    for line in evaluation.warnings:
        say(line)
    write_evaluation(
        output_dir,
        metrics=evaluation.metrics,
        title=f"Evaluation of {model.folder.resolve().name}",
        facts={
            "Model": str(model.folder),
            "Encoder": model.description.encoder.name,
            "Reads": ", ".join(str(path) for path in files),
            "Device": str(model.device),
        },
        warnings=evaluation.warnings,
        confusion_matrix=chosen.confusion_matrix,
        per_class_report=chosen.per_class_report,
        primary=chosen.primary,
    )
    metrics = evaluation.metrics
    for name in ("reads", "accuracy", "macro_f1", "micro_f1", "weighted_f1", "mcc", "auroc", "loss"):
        value = getattr(metrics, name)
        print(f"{name}\t{'' if value is None else value if name == 'reads' else f'{value:.4f}'}")
    say(f"report: {output_dir / 'report.html'}")
