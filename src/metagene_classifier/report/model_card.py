"""The model card: ``README.md`` of a saved model, with the front matter that the Hugging Face Hub reads.

https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from metagene_classifier.metrics.classification import METRIC_NAMES, ClassificationMetrics
from metagene_classifier.model.calibration import CalibrationFacts, CutOff

__all__ = ["CardClass", "ModelCardFacts", "model_card", "with_confidence"]

_CLASSES_SHOWN = 50
_CONFIDENCE = "## Confidence"
_SCORES = {
    "probability": "the largest probability",
    "energy": "the energy of the scores",
    "centroid": "the distance to the class means",
}

# Names that the Hub's list of metrics knows, where it has one.
_HUB_METRICS = {"macro_f1": "f1", "accuracy": "accuracy", "mcc": "matthews_correlation", "auroc": "roc_auc"}


@dataclass(frozen=True, slots=True)
class CardClass:
    """A class as the card shows it; ``validation_reads`` is ``None`` where they were not counted."""

    label: str
    taxid: int | None
    training_reads: int
    validation_reads: int | None = None


@dataclass(frozen=True)
class ModelCardFacts:
    """What the card tells.

    Attributes:
        name: of the model, such as its folder's.
        encoder: hub name, folder or ``builtin:NAME``.
        revision: of the encoder on the hub.
        encoder_is_new: its weights began at random, so there is no base model.
        adapter: how the encoder was changed, such as ``LoRA, r 8, alpha 16``; ``None`` without adapter weights.
        encoder_is_tuned: a pretrained encoder all of whose weights were trained.
        tokenizer: its name.
        pooling: how token states become a read's.
        max_length_tokens: the longest piece that the encoder sees at once.
        classes: in the order of the head's outputs.
        training_files: as the user named them.
        validation_files: as the user named them; empty where training reads were held out.
        steps: optimizer steps done.
        epochs: passes over the training reads.
        reads_per_step: reads of one optimizer step, over all devices.
        learning_rate: the highest.
        precision: ``bf16-mixed``, ``fp16-mixed`` or ``32``.
        hardware: the devices.
        plan: of the memory, in a line; empty where there was none.
        training_seconds: wall clock.
        versions: package names and versions.
        command: that made the model.
        metrics: of the saved weights on the validation reads.
        calibration: of the saved model; ``None`` before it is calibrated, and where it never is.
        ranked_classes: classes with a lineage; ``None`` of a model without a taxonomy.
    """

    name: str
    encoder: str
    revision: str | None
    encoder_is_new: bool
    adapter: str | None
    encoder_is_tuned: bool
    tokenizer: str
    pooling: str
    max_length_tokens: int
    classes: Sequence[CardClass]
    training_files: Sequence[str]
    validation_files: Sequence[str]
    steps: int
    epochs: float
    reads_per_step: int
    learning_rate: float
    precision: str
    hardware: str
    plan: str
    training_seconds: float
    versions: Mapping[str, str]
    command: str
    metrics: ClassificationMetrics | None
    calibration: CalibrationFacts | None = None
    ranked_classes: int | None = None


def model_card(facts: ModelCardFacts) -> str:
    """The whole ``README.md``. It claims no licence: that depends on the user's data and encoder."""
    sections = [
        f"---\n{_front_matter(facts)}\n---",
        f"# {_plain(facts.name)}",
        _summary(facts),
        "## What it calls",
        _classes(facts.classes),
        *_taxonomy(facts),
        "## Use",
        _use(facts.name),
        _CONFIDENCE,
        _confidence(facts.calibration),
        "## Limits",
        _limits(facts),
        "## Results on the validation reads",
        _results(facts.metrics),
        "## Data",
        _data(facts),
        "## Training",
        _training(facts),
    ]
    return "\n\n".join(sections) + "\n"


def with_confidence(card: str, calibration: CalibrationFacts) -> str:
    """A card with its section on confidence written anew, everything else as it was.

    Args:
        card: as :func:`model_card` gave it, perhaps before the model was calibrated.
        calibration: of the model.
    """
    before, _, rest = card.partition(f"\n{_CONFIDENCE}\n")
    after = rest[rest.index("\n## ") :] if "\n## " in rest else "\n"
    return f"{before}\n{_CONFIDENCE}\n\n{_confidence(calibration)}\n{after}"


def _front_matter(facts: ModelCardFacts) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = None
    if facts.metrics is not None:
        results = [
            EvalResult(
                task_type="text-classification",
                dataset_type="sequencing-reads",
                dataset_name="validation reads",
                metric_type=hub_name,
                metric_name=METRIC_NAMES[key],
                metric_value=round(value, 4),
            )
            for key, hub_name in _HUB_METRICS.items()
            if (value := getattr(facts.metrics, key)) is not None
        ]
    base = facts.encoder if not facts.encoder_is_new and _is_hub_name(facts.encoder) else None
    text: str = ModelCardData(
        model_name=facts.name,
        base_model=base,
        library_name="peft" if facts.adapter else "metagene-classifier",
        pipeline_tag="text-classification",
        tags=["metagene-classifier", "genomics", "metagenomics", "dna", "sequence-classification"],
        metrics=[result.metric_type for result in results or ()] or None,
        eval_results=results,
    ).to_yaml()
    return text.strip()


def _is_hub_name(encoder: str) -> bool:
    """``owner/name``, and no folder of this machine that is called so."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", encoder) is not None and not Path(encoder).exists()


def _plain(text: object) -> str:
    """Text of unknown origin as one line that Markdown shows as it is, also in a table's cell."""
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|])", r"\\\1", line)


def _code_block(text: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}bash\n{text}\n{fence}"


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _summary(facts: ModelCardFacts) -> str:
    encoder = _plain(facts.encoder)
    if facts.encoder_is_new:
        how = f"an encoder of the architecture {encoder}, trained from the start,"
    else:
        how = f"the encoder {encoder}"
        how += f" (revision {_plain(facts.revision)})" if facts.revision else ""
        how += f" with {_plain(facts.adapter)}" if facts.adapter else ""
        how += ", all its weights fine-tuned," if facts.encoder_is_tuned else ""
    return (
        f"Calls the organism of sequencing reads, one of {len(facts.classes):,} classes: {how} and a linear head on "
        f"its {_plain(facts.pooling)}-pooled states. Made with METAGENE Classifier."
    )


def _classes(classes: Sequence[CardClass]) -> str:
    counted = any(one.validation_reads is not None for one in classes)
    header = ["Label", "Taxid", "Training reads"] + (["Validation reads"] if counted else [])
    rows = [
        [one.label, one.taxid or "", f"{one.training_reads:,}"]
        + ([f"{one.validation_reads:,}" if one.validation_reads is not None else ""] if counted else [])
        for one in classes[:_CLASSES_SHOWN]
    ]
    table = _table(header, rows)
    more = len(classes) - _CLASSES_SHOWN
    return table + (f"\n\nand {more:,} more, in the model's own list of labels." if more > 0 else "")


def _taxonomy(facts: ModelCardFacts) -> list[str]:
    if facts.ranked_classes is None:
        return []
    known = "every class" if facts.ranked_classes == len(facts.classes) else f"{facts.ranked_classes:,} of the classes"
    return [
        f"The model's folder has the lineage of {known} (NCBI taxonomy): a read whose species is unsure is called at "
        "the lowest rank that is sure enough."
    ]


def _confidence(calibration: CalibrationFacts | None) -> str:
    if calibration is None:
        return (
            "Not calibrated: confidence is the plain softmax, which is often too sure. Every read is called its "
            "likeliest class unless `--confidence` gives a threshold."
        )
    temperature = calibration.temperature
    by_length = ", ".join(f"{value:.3f} from {tokens:,} tokens" for tokens, value in temperature.by_length)
    pairs = "" if temperature.pairs_measured else " (not measured; mates are taken to repeat each other)"
    rows = [
        ["Temperature", by_length or f"{temperature.single:.3f}"],
        ["Temperature of pairs", f"{temperature.pairs:.3f}{pairs}"],
        ["Expected calibration error before", f"{calibration.ece_before:.4f}"],
        ["Expected calibration error after", f"{calibration.ece_after:.4f}"],
        ["Default threshold", f"{calibration.threshold:.4g}"],
    ]
    if at := _at_threshold(calibration):
        rows.append(["Precision there, known reads", f"{at.precision:.4f}"])
        rows.append(["Sensitivity there, known reads", f"{at.sensitivity:.4f}"])
    text = f"Measured on {temperature.reads:,} validation reads."
    if calibration.refusal is None:
        return f"{text} No taxon was left out, so it is not known how reads of other organisms fare.\n\n" + _table(
            ["", ""], rows
        )
    refusal = calibration.refusal
    figures = refusal.figures[refusal.score]
    rows += [
        ["Best score for unknown organisms", _SCORES[refusal.score]],
        ["Its AUROC", f"{figures.auroc:.4f}"],
        ["Left-out reads called where 95% of known reads are", f"{figures.false_calls_at_95:.2%}"],
        ["Refusal by it, besides the threshold", "none" if refusal.cutoff is None else f"above {refusal.cutoff:.4g}"],
    ]
    text += (
        f" What reads of unknown organisms get was measured by leaving taxa out ({refusal.folds:,} folds, "
        f"{refusal.unknown:,} left-out reads), with the head fitted again and the encoder as it is."
    )
    return f"{text}\n\n" + _table(["", ""], rows)


def _at_threshold(calibration: CalibrationFacts) -> CutOff | None:
    """The table's row that is nearest to the default threshold."""
    rows = calibration.table
    return min(rows, key=lambda row: abs(row.threshold - calibration.threshold)) if rows else None


def _use(name: str) -> str:
    folder = name if re.fullmatch(r"[\w./-]+", name) else "MODEL"
    return _code_block(f"mgc predict --input reads.fq.gz --ckpt {folder} --output predictions.csv")


def _limits(facts: ModelCardFacts) -> str:
    return "\n".join(
        (
            "- It knows the classes above and no others: a read of any other organism gets one of these labels, unless "
            "its confidence falls short of the threshold.",
            "- It learned from the genomes or reads listed under Data: strains far from them, and regions that "
            "organisms share, such as ribosomal genes and mobile elements, are called less surely.",
            f"- The encoder sees at most {facts.max_length_tokens:,} tokens at once; `tokenizer.long_reads` of the "
            "configuration says what becomes of longer reads.",
            "- A call is no diagnosis.",
        )
    )


def _results(metrics: ClassificationMetrics | None) -> str:
    if metrics is None:
        return "Not measured: training had no validation reads."
    values = [(name, getattr(metrics, key)) for key, name in METRIC_NAMES.items()]
    table = _table(["Metric", "Value"], [[name, "–" if value is None else f"{value:.4f}"] for name, value in values])
    return f"{metrics.reads:,} reads.\n\n{table}"


def _data(facts: ModelCardFacts) -> str:
    total = sum(one.training_reads for one in facts.classes)
    validation = [_plain(file) for file in facts.validation_files] or ["held out from the training files"]
    lines = [f"{total:,} training reads.", "", *(f"- training: {_plain(file)}" for file in facts.training_files)]
    return "\n".join(lines + [f"- validation: {file}" for file in validation])


def _training(facts: ModelCardFacts) -> str:
    hours, minutes = divmod(round(facts.training_seconds / 60), 60)
    taken = f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{facts.training_seconds:.0f} s"
    table = _table(
        ["", ""],
        [
            ["Optimizer steps", f"{facts.steps:,}"],
            ["Epochs", f"{facts.epochs:g}"],
            ["Reads a step", f"{facts.reads_per_step:,}"],
            ["Learning rate", f"{facts.learning_rate:g}"],
            ["Precision", facts.precision],
            ["Tokenizer", facts.tokenizer],
            ["Hardware", facts.hardware],
            *([["Memory", facts.plan]] if facts.plan else []),
            ["Time", taken],
            ["Versions", ", ".join(f"{name} {version}" for name, version in facts.versions.items())],
        ],
    )
    return f"{table}\n\n{_code_block(facts.command)}"
