"""``mgc evaluate``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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
from metagene_classifier.console import say

if TYPE_CHECKING:
    from metagene_classifier.prediction.calling import Caller
    from metagene_classifier.prediction.evaluation import Evaluation
    from metagene_classifier.prediction.kraken_calls import OtherCalls
    from metagene_classifier.prediction.scorer import Scorer
    from metagene_classifier.prediction.source import ReadSource
    from metagene_classifier.reads.labels import Labels
    from metagene_classifier.reads.taxonomy import Taxonomy

__all__ = ["command"]

CLOSED_SET = ("reads", "accuracy", "macro_f1", "micro_f1", "weighted_f1", "mcc", "auroc", "loss")
OPEN = ("called", "precision", "sensitivity", "f1")


@click.command("evaluate")
@ckpt_option
@click.option("--input", "sources", multiple=True, help="Labelled reads: a file or a folder; may be given repeatedly.")
@pair_options
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
@click.option(
    "--compare",
    multiple=True,
    metavar="[NAME=]FILE",
    help="Kraken output of another classifier on the same reads; may be given repeatedly.",
)
@click.option("--both-strands", is_flag=True, help="Score every read reversed too, and tell the strands apart.")
@click.option("--open-set", is_flag=True, help="Measure how well reads of left-out taxa are told from known ones.")
@calling_options
@scoring_memory_options
@quantization_option
@long_reads_option
@device_option
@trust_option
def command(
    ckpt: str,
    sources: tuple[str, ...],
    input2: str | None,
    interleaved: bool,
    split: str | None,
    output_dir: Path,
    labels_from: str | None,
    labels_tsv: str | None,
    skip_unknown: bool,
    compare: tuple[str, ...],
    both_strands: bool,
    open_set: bool,
    confidence: float | None,
    target_precision: float | None,
    closed_set: bool,
    min_tokens: int | None,
    strand: Literal["single", "average"] | None,
    taxonomy: Path | None,
    batch_size: int | None,
    max_tokens: int | None,
    quantization: Literal["none", "int8", "nf4"] | None,
    long_reads: Literal["window", "truncate", "error"] | None,
    device: str,
    trust_remote_code: bool,
) -> None:
    """Score a trained model on labelled reads.

    Standard output has the figures of the likeliest classes and, from "called" on, those of the calls as mgc predict
    makes them, refusals included. --output-dir gets metrics.json, per_class.csv, per_rank.csv, groups.csv,
    confusion_matrix.csv and .png, predictions.csv and report.html.
    """
    from metagene_classifier.errors import ConfigError, OutputError

    started = time.monotonic()
    if output_dir.exists() and not output_dir.is_dir():
        raise OutputError(f"--output-dir {output_dir} is a file: name a folder")
    if bool(sources) == bool(split):
        raise ConfigError("say what to evaluate on: either --input FILE or --split train|val|test")
    if (input2 is not None or interleaved) and len(sources) != 1:
        raise ConfigError("pairs come from one --input (with --input2 FILE, or --interleaved): evaluate others apart")
    from metagene_classifier.calling.confusion import Confusion
    from metagene_classifier.model.description import read_description
    from metagene_classifier.prediction.calling import caller_for, check_cut_offs
    from metagene_classifier.prediction.compare import read_others
    from metagene_classifier.prediction.evaluation import evaluate_model, labelled_input
    from metagene_classifier.prediction.labelled_units import LabelledUnits
    from metagene_classifier.prediction.open_set import open_set_of_reads
    from metagene_classifier.prediction.opening import folder_of, open_model, scorer_for
    from metagene_classifier.reads.files import expand_inputs
    from metagene_classifier.report.evaluation import EVALUATION_FILES, write_evaluation
    from metagene_classifier.report.what_ran import command_line, seconds_in_words
    from metagene_classifier.training.data import label_source
    from metagene_classifier.whole_files import check_output_file

    # What a user can mistake is looked at before a large model is loaded.
    check_cut_offs(confidence, target_precision, closed_set)
    if input2 is not None and interleaved:
        raise ConfigError("--input2 holds the mates, or --interleaved says that they are in --input: give one of them")
    expand_inputs([input2] if input2 is not None else [])
    others = read_others(compare)
    folder = folder_of(ckpt)
    description = read_description(folder)
    if both_strands and (strand or description.calling.strand) == "average":
        raise ConfigError("--both-strands tells nothing where strands are averaged: give --strand single")
    asked = None if taxonomy is None else _taxonomy(taxonomy, description.label_table(), others)
    files, dataset, chosen = labelled_input(
        folder, description, sources=sources, split=split, labels_from=labels_from, labels_tsv=labels_tsv
    )
    pairs = _pairs(files, input2, interleaved)
    files = files if pairs is None else [Path(name) for name in pairs.files]
    read = [*files, *(Path(table) for table in [dataset.labels_tsv] if table), *(other.source for other in others)]
    if open_set and any(str(path) == "-" for path in files):
        raise ConfigError("--open-set goes over the reads twice: give files instead of standard input")
    for name in EVALUATION_FILES:
        check_output_file(output_dir / name, read)
    model = open_model(
        ckpt, device=device, device_map=None, quantization=quantization, trust_remote_code=trust_remote_code, tell=say
    )
    scorer = scorer_for(
        model, batch_size=batch_size, max_tokens=max_tokens, long_reads=long_reads, embed=False, tell=say, strand=strand
    )
    known = model.taxonomy if asked is None else asked
    caller = caller_for(
        model.description,
        known,
        confidence=confidence,
        target_precision=target_precision,
        closed_set=closed_set,
        min_tokens=min_tokens,
        paired=pairs is not None,
        hits=False,
        taxonomy=None,
        tell=say,
    )
    if not caller.calibrator.calibrated:
        say(f"{model.folder} is not calibrated: its confidence is the plain softmax, and it refuses nothing by itself")
    units = LabelledUnits(files, pairs, caller.labels, label_source(dataset), strict=not skip_unknown)
    evaluation = evaluate_model(
        scorer,
        caller,
        units,
        predictions=output_dir / "predictions.csv",
        compute_auroc=chosen.compute_auroc,
        both_strands=both_strands,
        others=others,
        taxonomy=known,
        confusion=Confusion.load(model.folder),
        default_cut_offs=confidence is None and target_precision is None and not closed_set and min_tokens is None,
    )
    if open_set:
        embedder = scorer_for(
            model,
            batch_size=batch_size,
            max_tokens=max_tokens,
            long_reads=long_reads,
            embed=True,
            tell=lambda line: None,
        )
        strangers = open_set_of_reads(model, embedder, units.reads(), tell=say)
        evaluation = replace(evaluation, open_set=strangers)
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
            "Calls": _how_called(caller, scorer),
            **({"Compared with": ", ".join(f"{one.name} ({one.source})" for one in others)} if others else {}),
            "Device": str(model.device),
            "Plan": f"{scorer.budget.tokens:,} tokens at once, {scorer.layout}",
            "Time": seconds_in_words(time.monotonic() - started),
            "Command": command_line(),
        },
        warnings=evaluation.warnings,
        confusion_matrix=chosen.confusion_matrix,
        per_class_report=chosen.per_class_report,
        primary=chosen.primary,
        evaluation=evaluation,
        tree=caller.tree,
        calibration=model.description.calibration,
    )
    _print(evaluation)
    say(f"report: {output_dir / 'report.html'}")


def _silent(line: str) -> None:
    """What was told of the scores holds of the embeddings as well."""


def _pairs(files: Sequence[Path], input2: str | None, interleaved: bool) -> ReadSource | None:
    """The files as a source of pairs, where they are one."""
    from metagene_classifier.errors import ConfigError
    from metagene_classifier.prediction.source import ReadSource

    if input2 is None and not interleaved:
        return None
    if len(files) != 1:
        raise ConfigError(f"pairs come from one --input, and {len(files)} files are in this one: evaluate them apart")
    return ReadSource(str(files[0]), input2, interleaved)


def _taxonomy(folder: Path, labels: Labels, others: Sequence[OtherCalls]) -> Taxonomy:
    """That of ``--taxonomy``, with all that is called anywhere."""
    from metagene_classifier.reads.taxonomy import Taxonomy

    called = {int(taxid) for other in others for taxid in set(other.taxids.tolist())}
    known = Taxonomy.read(folder, called | {taxid for taxid in labels.taxids if taxid is not None})
    for line in known.faults(labels):
        say(line)
    return known


def _how_called(caller: Caller, scorer: Scorer) -> str:
    """The options of the calls in words."""
    options = caller.options
    if options.closed_set or options.threshold <= 0:
        words = ["the likeliest class"]
    else:
        words = [f"the deepest taxon with a confidence of {options.threshold:g}"]
    if options.min_tokens:
        words.append(f"reads of at least {options.min_tokens} tokens")
    return ", ".join([*words, *(["pairs"] if options.paired else []), f"strand: {scorer.strand}"])


def _print(evaluation: Evaluation) -> None:
    """Names and figures on standard output, a line each."""
    figures = {name: getattr(evaluation.metrics, name) for name in CLOSED_SET}
    figures |= {name: getattr(evaluation.open, name) for name in OPEN}
    figures |= {"ece": (evaluation.reliability.after or evaluation.reliability.before).ece}
    for name, value in figures.items():
        print(f"{name}\t{'' if value is None else value if isinstance(value, int) else f'{value:.4f}'}")
