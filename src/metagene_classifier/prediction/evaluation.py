"""A trained model on labelled reads: its calls, and the figures that they earn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metagene_classifier.config import DatasetConfig, MetricsConfig
from metagene_classifier.config_file import load_config
from metagene_classifier.console import progress
from metagene_classifier.errors import ConfigError, DataError
from metagene_classifier.metrics.classification import ClassificationMetrics, classification_metrics
from metagene_classifier.model.saved import LoadedModel
from metagene_classifier.prediction.calls import calls_of
from metagene_classifier.prediction.formats.csv_calls import CallsCsv
from metagene_classifier.prediction.scorer import Scorer
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.reads.files import expand_inputs
from metagene_classifier.reads.labelled import LabellingReport, labelled_reads
from metagene_classifier.reads.labels import Labels
from metagene_classifier.reads.read import Read
from metagene_classifier.store.facts import is_store
from metagene_classifier.training.data import label_source
from metagene_classifier.whole_files import whole_file

__all__ = ["Evaluation", "evaluate_model", "labelled_input"]

CONFIG_FILE = "config.yaml"


@dataclass(frozen=True)
class Evaluation:
    """The figures of a model on some reads, and what a user should know of them."""

    metrics: ClassificationMetrics
    warnings: list[str]


def labelled_input(
    model: LoadedModel,
    *,
    sources: Sequence[str],
    split: str | None,
    labels_from: str | None,
    labels_tsv: str | None,
) -> tuple[list[Path], DatasetConfig, MetricsConfig]:
    """The files to evaluate on, how their labels are found, and which figures are wanted.

    Raises:
        ConfigError: the model's configuration names no file for ``split``, or is not there.
        DataError: a file is missing.
    """
    saved = model.folder / CONFIG_FILE
    if saved.exists():
        config = load_config(saved)
        dataset, metrics = config.dataset, config.metrics
    else:
        dataset, metrics = DatasetConfig(header_regex=model.description.header_regex), MetricsConfig()
    if split is not None:
        named = getattr(dataset, f"{split}_fasta")
        if named is None:
            raise ConfigError(f"--split {split}: the model's configuration names no {split} reads: give --input")
        sources = [named] if isinstance(named, str) else named
    stores = [source for source in sources if is_store(Path(source))]
    if stores:
        raise DataError(f"{stores[0]} is a store, which has no reads' names to report on: give the files of its reads")
    files = expand_inputs(list(sources))
    changes = {"labels_from": labels_from or ("tsv" if labels_tsv else None), "labels_tsv": labels_tsv}
    dataset = dataset.model_copy(update={key: value for key, value in changes.items() if value is not None})
    if dataset.labels_from == "tsv" and dataset.labels_tsv is None:
        raise ConfigError("--labels-from tsv needs --labels-tsv FILE")
    return files, dataset, metrics


def evaluate_model(
    scorer: Scorer,
    labels: Labels,
    *,
    files: Sequence[Path],
    dataset: DatasetConfig,
    strict: bool,
    predictions: Path,
    compute_auroc: bool,
) -> Evaluation:
    """Call labelled reads, write the calls, and compute the figures.

    Args:
        scorer: class scores.
        labels: the model's classes.
        files: labelled reads.
        dataset: how their labels are found.
        strict: refuse reads of classes that the model does not have, instead of skipping them.
        predictions: CSV of the calls.
        compute_auroc: also the areas under the curves.

    Raises:
        MgcError: the reads cannot be used or an output cannot be written.
    """
    labelling = LabellingReport()
    report = StreamReport()
    source = label_source(dataset)
    truth: list[int] = []

    def reads() -> Iterator[Read]:
        for item in labelled_reads(files, labels, source, strict, labelling):
            truth.append(item.class_index)
            yield item.read

    probabilities = []
    with whole_file(predictions) as out, progress(unit="read", label="evaluating") as bar:
        csv = CallsCsv(None)
        out.write(csv.header())
        for block in scorer.stream(reads(), report):
            calls = list(calls_of(block, labels))
            out.write(csv.rows(calls))
            probabilities.append(np.stack([call.probabilities for call in calls]))
            bar.update(len(calls))
    metrics = classification_metrics(
        np.asarray(truth, np.int64), np.concatenate(probabilities), labels.names, compute_auroc=compute_auroc
    )
    warnings = report.lines() + labelling.faults(source)
    return Evaluation(metrics, warnings)
