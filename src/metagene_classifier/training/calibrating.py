"""The end of a run: its chosen model's confidence is measured on the validation reads, and kept with the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from metagene_classifier.calling.novelty import energies, strangeness
from metagene_classifier.calling.open_set import Embedded, LeftOut, leave_taxa_out
from metagene_classifier.calling.refusal import Choice, choose
from metagene_classifier.calling.spaces import Axes, centroids_of
from metagene_classifier.calling.temperature import fit_temperatures, temperatures_of
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.console import progress
from metagene_classifier.metrics.calibration import reliability
from metagene_classifier.metrics.open_set import open_set_as_dict
from metagene_classifier.model.calibration import (
    CONFUSION_FILE,
    CalibrationFacts,
    NoveltyScore,
    ReliabilityFacts,
    TemperatureFacts,
)
from metagene_classifier.model.centroids import CENTROIDS_FILE, Centroids
from metagene_classifier.model.description import file_digests, read_description, write_description
from metagene_classifier.model.out_of_memory import DeviceMemoryError
from metagene_classifier.model.scoring import probabilities_of
from metagene_classifier.training.sampled_embeddings import (
    EmbedsReads,
    balanced_ranks,
    drawn_evenly,
    drawn_whole_groups,
    groups_of,
)
from metagene_classifier.whole_files import whole_file

__all__ = ["LEAST_READS", "OPEN_SET_FILE", "CalibrationSettings", "calibrate_run", "is_due"]

OPEN_SET_FILE = "open_set.json"
"""In the run's folder: the curves behind the choice of refusal."""
LEAST_READS = 100
"""Validation reads below which nothing is measured: bins of a few reads would say anything."""
ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class CalibrationSettings:
    """What of a configuration the end of a run acts on.

    Attributes:
        calibrate: measure anything at all.
        reads: validation reads at most.
        open_set: leave taxa out.
        open_set_reads: training reads for it at most, and as many validation reads.
        folds: of the classes, at most.
        seed: of what is drawn.
        strand: how the reads' embeddings are made.
    """

    calibrate: bool
    reads: int
    open_set: bool
    open_set_reads: int
    folds: int
    seed: int
    strand: Literal["single", "average"] = "single"


def is_due(folder: Path, validation_reads: int, settings: CalibrationSettings, tell: Callable[[str], None]) -> bool:
    """Whether a model is still to be calibrated, and can be; a line says why not.

    Args:
        folder: of the model.
        validation_reads: of the run.
        settings: of the run.
        tell: called with a line for the user.
    """
    if not settings.calibrate or read_description(folder).calibration is not None:
        return False
    if validation_reads < LEAST_READS:
        reads = f"{validation_reads} validation reads" if validation_reads else "no validation reads"
        tell(f"the model is not calibrated: {reads}, and {LEAST_READS} are needed; it calls the likeliest class")
        return False
    return True


def calibrate_run(
    folder: Path,
    output_dir: Path,
    *,
    train: EmbedsReads,
    validation: EmbedsReads,
    head: torch.nn.Linear,
    tree: ClassTree,
    settings: CalibrationSettings,
    accelerator: Any,
    tell: Callable[[str], None],
) -> None:
    """Measure the chosen model's confidence and write what was found into its folder.

    The folder is a whole model before, all the while and afterwards. All ranks call this; the first one writes.

    Args:
        folder: of the model, whose weights are in ``head`` and behind ``train`` and ``validation``.
        output_dir: of the run.
        train: training reads and their embeddings.
        validation: likewise validation reads.
        head: of the model.
        tree: of the classes.
        settings: of the run.
        accelerator: knows the ranks.
        tell: called with lines for the user.

    Raises:
        KeyboardInterrupt: the user does not want to wait, which was told; the model is whole and not calibrated.
    """
    try:
        measured = _measured(train, validation, head, tree, settings, accelerator)
        if measured is not None:
            _write(folder, output_dir, measured)
            for line in _lines(measured.facts):
                tell(line)
    except DeviceMemoryError as error:
        tell(f"the model is whole, and not calibrated: {error}")
    except KeyboardInterrupt as stopped:
        tell(
            f"stopped while calibrating: {folder} is whole, and not calibrated: the same command with --resume does it"
        )
        raise KeyboardInterrupt("while calibrating") from stopped
    accelerator.wait_for_everyone()


@dataclass(frozen=True)
class _Measured:
    facts: CalibrationFacts
    choice: Choice
    centroids: Centroids | None


def _measured(
    train: EmbedsReads,
    validation: EmbedsReads,
    head: torch.nn.Linear,
    tree: ClassTree,
    settings: CalibrationSettings,
    accelerator: Any,
) -> _Measured | None:
    """What the first rank found out; ``None`` on the others."""
    numbers = drawn_whole_groups(validation.reads, settings.reads, settings.seed)
    values = validation.embed(numbers)
    learned, learned_values = np.zeros(0, np.int64), np.zeros((0, values.shape[1]), np.float32)
    if settings.open_set:
        learned = drawn_evenly(train.reads, settings.open_set_reads, settings.seed)
        learned_values = train.embed(learned)
    if not accelerator.is_main_process:
        return None
    store = validation.reads.store
    classes, tokens = store.classes_of(numbers).astype(np.int64), store.lengths_of(numbers)
    scores = _scores(head, values)
    temperature = fit_temperatures(
        scores, classes, tokens, groups_of(validation.reads, numbers), strand=settings.strand
    )
    before = _reliability(_probabilities(scores, tokens, None), classes)
    probabilities = _probabilities(scores, tokens, temperature)
    folds: list[LeftOut] = []
    novelty: dict[NoveltyScore, npt.NDArray[np.float64]] = {}
    centroids = None
    if len(learned):
        of_learned = train.reads.store.classes_of(learned).astype(np.int64)
        some = np.sort(np.argsort(balanced_ranks(classes, settings.seed), kind="stable")[: settings.open_set_reads])
        with progress(total=settings.folds, unit="fold", label="leaving taxa out") as bar:
            folds = leave_taxa_out(
                Embedded(learned_values, _scores(head, learned_values), of_learned),
                Embedded(values[some], scores[some], classes[some]),
                tree,
                folds=settings.folds,
                seed=settings.seed,
                step=bar.update,
            )
        if folds:
            axes = Axes.of(learned_values, settings.seed, to_length_1=True)
            centroids = centroids_of(axes, learned_values, of_learned)
            novelty = {
                "probability": strangeness(probabilities),
                "energy": np.concatenate([energies(scores[part]) for part in _parts(len(scores))]),
                "centroid": centroids.distances(values),
            }
    choice = choose(probabilities, classes, tree, folds, novelty)
    facts = CalibrationFacts(
        temperature=temperature,
        before=before,
        after=_reliability(probabilities, classes),
        threshold=choice.threshold,
        table=choice.table,
        refusal=choice.refusal,
        confusion=True,
    )
    needed = choice.refusal is not None and choice.refusal.score == "centroid" and choice.refusal.cutoff is not None
    return _Measured(facts, choice, centroids if needed else None)


def _parts(reads: int) -> list[slice]:
    return [slice(start, start + ROWS_AT_ONCE) for start in range(0, reads, ROWS_AT_ONCE)]


def _scores(head: torch.nn.Linear, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Class scores of embeddings; ``(reads, hidden)`` to ``(reads, classes)``."""
    scores = np.empty((len(values), head.out_features), np.float32)
    with torch.inference_mode():
        for part in _parts(len(values)):
            scores[part] = head(torch.from_numpy(values[part]).to(head.weight.device)).float().cpu().numpy()
    return scores


def _probabilities(
    scores: npt.NDArray[np.float32], tokens: npt.NDArray[np.int64], facts: TemperatureFacts | None
) -> npt.NDArray[np.float32]:
    """Probabilities as a model of these temperatures gives them, or the plain softmax."""
    found = np.empty_like(scores)
    for part in _parts(len(scores)):
        divided: npt.NDArray[Any] = scores[part]
        if facts is not None:
            divided = divided.astype(np.float64) / temperatures_of(facts, tokens[part])[:, None]
        found[part] = probabilities_of(divided)
    return found


def _reliability(probabilities: npt.NDArray[np.float32], classes: npt.NDArray[np.int64]) -> ReliabilityFacts:
    found = reliability(probabilities.max(axis=1), probabilities.argmax(axis=1) == classes)
    return ReliabilityFacts(
        edges=tuple(found.edges.tolist()),
        reads=tuple(found.reads.tolist()),
        confidence=tuple(found.confidence.tolist()),
        accuracy=tuple(found.accuracy.tolist()),
        ece=found.ece,
    )


def _write(folder: Path, output_dir: Path, measured: _Measured) -> None:
    """The description comes last: until it is there, the folder is the same uncalibrated model as before."""
    with whole_file(output_dir / OPEN_SET_FILE) as out:
        out.write(json.dumps(open_set_as_dict(measured.choice.figures)) + "\n")
    names = [CONFUSION_FILE]
    measured.choice.confusion.save(folder)
    if measured.centroids is not None:
        measured.centroids.save(folder)
        names.append(CENTROIDS_FILE)
    description = read_description(folder)
    files = {**description.files, **file_digests(folder, names)}
    write_description(folder, description.model_copy(update={"calibration": measured.facts, "files": files}))


def _lines(facts: CalibrationFacts) -> list[str]:
    temperature = facts.temperature
    values = [f"{temperature.single:.3f}"]
    values += [f"{value:.3f} from {start} tokens on" for start, value in temperature.by_length]
    pairs = "" if temperature.pairs_measured else ", not measured: too few pairs"
    lines = [
        f"calibrated on {temperature.reads:,} validation reads: temperature {', '.join(values)}, of pairs "
        f"{temperature.pairs:.3f}{pairs}; expected calibration error {facts.ece_before:.4f} before, "
        f"{facts.ece_after:.4f} after"
    ]
    for row in facts.table:
        if row.threshold == facts.threshold:
            lines.append(
                f"default threshold {facts.threshold:g}: precision {row.precision:.4f} and sensitivity "
                f"{row.sensitivity:.4f} on the validation reads"
            )
    refusal = facts.refusal
    if refusal is not None:
        best = refusal.figures[refusal.score]
        used = "no cut-off on it, which would add nothing" if refusal.cutoff is None else "and reads are refused by it"
        lines.append(
            f"{refusal.folds} folds of taxa left out: AUROC {best.auroc:.3f} by {refusal.score}, "
            f"{best.false_calls_at_95:.1%} called where 95% of the known are; {used}"
        )
    return lines
