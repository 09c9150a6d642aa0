"""A trained model on labelled reads: its calls, and the figures that they earn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metagene_classifier.calling.confusion import Confusion
from metagene_classifier.calling.tree import RANKS
from metagene_classifier.config import DatasetConfig, MetricsConfig
from metagene_classifier.config_file import load_config
from metagene_classifier.console import progress
from metagene_classifier.errors import ConfigError, DataError
from metagene_classifier.metrics.calls import CallFigures
from metagene_classifier.metrics.classification import ClassificationMetrics
from metagene_classifier.metrics.groups import GroupFigures, GroupRow
from metagene_classifier.metrics.open_set import OpenSetFigures, open_set_as_dict
from metagene_classifier.metrics.ranks import RankFigures
from metagene_classifier.model.description import ModelDescription
from metagene_classifier.prediction.calling import Caller
from metagene_classifier.prediction.compare import ComparedFigures, compare
from metagene_classifier.prediction.evaluation_tally import EvaluationTally, ReadReliability
from metagene_classifier.prediction.formats.csv_calls import CallsCsv
from metagene_classifier.prediction.kraken_calls import OtherCalls
from metagene_classifier.prediction.labelled_units import LabelledUnits
from metagene_classifier.prediction.profile.estimate import Profile, estimate_profile
from metagene_classifier.prediction.profile.tally import SampleTally
from metagene_classifier.prediction.rank_evaluation import figures_at_ranks, figures_of_calls, profile_shares, taxids_at
from metagene_classifier.prediction.scorer import READS_PER_BLOCK, ScoredBlock, Scorer
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.reads.files import expand_inputs
from metagene_classifier.reads.read import Read
from metagene_classifier.reads.strand import reverse_complement
from metagene_classifier.reads.taxonomy import Taxonomy
from metagene_classifier.store.facts import is_store
from metagene_classifier.whole_files import whole_file

__all__ = ["Evaluation", "evaluate_model", "labelled_input"]

CONFIG_FILE = "config.yaml"
THIS_MODEL = "this model"
Table = tuple[list[str], Iterator[list[Any]]]


@dataclass(frozen=True)
class Evaluation:
    """The figures of a model on some reads, and what a user should know of them.

    Attributes:
        metrics: of the likeliest classes, refused or not.
        warnings: lines.
        open: of the calls as they are made, refusals and calls at higher ranks included.
        threshold: that a call's probability had to reach; 0 for none.
        reasons: unclassified reads by reason.
        ranks: figures at every rank; empty without a taxonomy.
        reliability: what confidence is worth on these reads.
        groups: by length, error rate and strand, as far as they are known.
        profile: of these reads, estimated as a sample's is.
        compared: other classifiers on the same reads.
        open_set: by score, how well it tells reads of left-out taxa from others; empty where it was not asked for.
    """

    metrics: ClassificationMetrics
    warnings: list[str]
    open: CallFigures
    threshold: float
    reasons: Mapping[str, int]
    ranks: tuple[RankFigures, ...]
    reliability: ReadReliability
    groups: tuple[GroupFigures, ...]
    profile: Profile
    compared: tuple[ComparedFigures, ...] = ()
    open_set: Mapping[str, OpenSetFigures] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """All but the metrics of the likeliest classes, ready for JSON."""
        return {
            "open": {**self.open.as_dict(), "threshold": self.threshold, "unclassified_reasons": dict(self.reasons)},
            "ranks": [one.as_dict() for one in self.ranks],
            "calibration": self.reliability.as_dict(),
            "groups": {kind.kind: [row.as_dict() for row in kind.rows] for kind in self.groups},
            "open_set": open_set_as_dict(self.open_set),
            "compared": [one.as_dict() for one in self.compared],
        }

    def rank_table(self) -> Table:
        """Header and rows of a table of all classifiers at all ranks; no row without a taxonomy."""
        names = list(RankFigures.columns())
        rows = (
            [name, *figures.as_dict().values()]
            for name, ranks in [(THIS_MODEL, self.ranks), *((one.name, one.ranks) for one in self.compared)]
            for figures in ranks
        )
        return ["classifier", *names], rows

    def group_table(self) -> Table:
        """Header and rows of a table of all groups of reads."""
        rows = ([kind.kind, *row.as_dict().values()] for kind in self.groups for row in kind.rows)
        return ["kind", *GroupRow.__slots__], rows


def labelled_input(
    folder: Path,
    description: ModelDescription,
    *,
    sources: Sequence[str],
    split: str | None,
    labels_from: str | None,
    labels_tsv: str | None,
) -> tuple[list[Path], DatasetConfig, MetricsConfig]:
    """The files to evaluate on, how their labels are found, and which figures are wanted.

    Args:
        folder: of the model, with the configuration that it was trained by.
        description: of the model.
        sources: what ``--input`` names.
        split: instead of them, which file of the model's own configuration.
        labels_from: where labels stand, instead of what the configuration says.
        labels_tsv: a table of them.

    Raises:
        ConfigError: the model's configuration names no file for ``split``, or is not there.
        DataError: a file is missing.
    """
    saved = folder / CONFIG_FILE
    if saved.exists():
        config = load_config(saved)
        dataset, metrics = config.dataset, config.metrics
    else:
        dataset, metrics = DatasetConfig(header_regex=description.header_regex), MetricsConfig()
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
    caller: Caller,
    units: LabelledUnits,
    *,
    predictions: Path,
    compute_auroc: bool,
    both_strands: bool = False,
    others: Sequence[OtherCalls] = (),
    taxonomy: Taxonomy | None = None,
    confusion: Confusion | None = None,
    default_cut_offs: bool = True,
) -> Evaluation:
    """Call labelled reads, write the calls, and compute the figures.

    Args:
        scorer: class scores of the model that is evaluated.
        caller: makes calls of them.
        units: labelled reads or pairs.
        predictions: CSV of the calls.
        compute_auroc: also the areas under the curves.
        both_strands: score every read reversed as well.
        others: calls of other classifiers on the same reads.
        taxonomy: that the caller's tree was made of.
        confusion: of the model, to correct the profile by.
        default_cut_offs: whether reads are refused as they were when it was counted.

    Raises:
        MgcError: the reads cannot be used or an output cannot be written.
    """
    report = StreamReport()
    tally = EvaluationTally(caller, compute_auroc=compute_auroc, keep_keys=bool(others), both_strands=both_strands)
    sample = SampleTally(caller.tree)
    with whole_file(predictions) as out, progress(unit="read", label="evaluating") as bar:
        csv = CallsCsv(None, caller.tree)
        out.write(csv.header())
        for block in scorer.stream_blocks(units.blocks(READS_PER_BLOCK), report):
            scores, calls = caller.units(block), caller.calls(block)
            truth = units.truth(len(calls))
            out.write(csv.rows(calls))
            tally.add(scores, calls, truth)
            sample.add(calls)
            if both_strands:
                other = _reversed(scorer, block)
                tally.add_reversed(caller.units(other), caller.calls(other), truth)
            bar.update(len(block.reads))
    metrics = tally.metrics()
    profile = estimate_profile(
        "evaluation", sample, caller.tree, confusion, bootstraps=0, default_cut_offs=default_cut_offs
    )
    compared = tuple(compare(other, tally.keys, tally.truth(), caller.tree, taxonomy) for other in others if tally.keys)
    warnings = report.lines() + units.report.faults(units.source)
    if tally.without_base:
        warnings.append(
            f"{tally.without_base:,} reads without a known base are unclassified, and count in no figure of the "
            "likeliest classes"
        )
    return Evaluation(
        metrics=metrics,
        warnings=[
            *warnings,
            *(line for one in compared for line in one.warnings),
            *(f"estimated profile: {line}" for line in profile.warnings),
        ],
        open=figures_of_calls(tally.counts, caller.tree),
        threshold=0.0 if caller.options.closed_set else caller.options.threshold,
        reasons=dict(tally.reasons),
        ranks=figures_at_ranks(
            tally.counts,
            caller.tree,
            taxid_of_call={rank: taxids_at(caller.tree, rank) for rank in RANKS},
            is_call=np.arange(len(caller.tree)) > 0,
            estimated=profile_shares(profile, caller.tree) if profile.method == "em" else None,
        ),
        reliability=tally.reliability(),
        groups=tally.groups(),
        profile=profile,
        compared=compared,
    )


def _reversed(scorer: Scorer, block: ScoredBlock) -> ScoredBlock:
    """The same reads from their other ends."""
    turned = [
        Read(read.header, reverse_complement(read.sequence), None if read.qualities is None else read.qualities[::-1])
        for read in block.reads
    ]
    return next(scorer.stream_blocks([turned], StreamReport()))
