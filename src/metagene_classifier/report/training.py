"""What a training run leaves for people: the model's card, and the report on its validation reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.config import ModelConfig
from metagene_classifier.config_file import config_yaml
from metagene_classifier.metrics.open_set import OpenSetFigures, open_set_from_dict
from metagene_classifier.model.description import read_description
from metagene_classifier.report.cautions import training_cautions
from metagene_classifier.report.evaluation import write_evaluation
from metagene_classifier.report.model_card import CardClass, ModelCardFacts, model_card, with_confidence
from metagene_classifier.report.what_ran import package_versions, seconds_in_words
from metagene_classifier.training.calibrating import OPEN_SET_FILE
from metagene_classifier.training.data import TrainingData
from metagene_classifier.training.run import RunFacts, TrainingResult
from metagene_classifier.whole_files import whole_file

__all__ = ["write_model_card", "write_training_report"]

CARD_FILE = "README.md"


def write_model_card(folder: Path, facts: RunFacts, *, command: str) -> None:
    """Write ``README.md`` and the resolved ``config.yaml`` into a model's folder."""
    (folder / CARD_FILE).write_text(model_card(_card_facts(facts, command)), encoding="utf-8")
    (folder / "config.yaml").write_text(config_yaml(facts.config), encoding="utf-8")


def write_training_report(output_dir: Path, result: TrainingResult, *, command: str) -> None:
    """Write metrics, tables, pictures and ``report.html`` of the run's model on its validation reads.

    The model's card is told of the calibration, which came after the card was written. A run without validation reads
    has no figures to report, and nothing is written.
    """
    if result.metrics is None:
        return
    calibration = read_description(result.model_folder).calibration
    card = result.model_folder / CARD_FILE
    if calibration is not None and card.exists():
        text = with_confidence(card.read_text(encoding="utf-8"), calibration)
        with whole_file(card) as out:
            out.write(text)
    facts, config = result.facts, result.facts.config
    data = facts.data
    write_evaluation(
        output_dir,
        metrics=result.metrics,
        title="Training and validation",
        facts={
            "Model": str(result.model_folder),
            "Encoder": config.model.encoder_path,
            "Trained": _what_is_trained(facts),
            "Training files": ", ".join(_as_list(config.dataset.train_fasta)),
            "Training reads": _training_reads(facts),
            "Validation files": ", ".join(_as_list(config.dataset.val_fasta)) or "held out from the training files",
            "Validation reads": f"{len(data.validation):,}",
            **({"Taxonomy": config.dataset.taxonomy} if config.dataset.taxonomy else {}),
            "Steps": f"{facts.state.step:,} ({facts.state.finished})",
            "Best": f"step {facts.state.best_step:,}, {config.training.early_stopping.metric}",
            "Device": _device(facts),
            **({"Plan": facts.plan} if facts.plan else {}),
            "Time": f"{seconds_in_words(facts.state.seconds)} in training steps",
            "Command": command,
        },
        warnings=[*data.warnings, *_cautions(facts)],
        confusion_matrix=config.metrics.confusion_matrix,
        per_class_report=config.metrics.per_class_report,
        history=result.history,
        primary=config.metrics.primary,
        tree=ClassTree.of(data.labels, data.taxonomy),
        calibration=calibration,
        open_set=_open_set(result.model_folder.parent / OPEN_SET_FILE) if calibration is not None else None,
    )


def _cautions(facts: RunFacts) -> list[str]:
    data, config = facts.data, facts.config
    return training_cautions(
        data.labels.names,
        data.order.reads_per_class,
        data.validation.reads_per_class,
        weighted=config.loss.class_weights is not None,
    )


def _open_set(path: Path) -> dict[str, OpenSetFigures]:
    """The figures of left-out taxa that the end of training wrote, if it did."""
    if not path.exists():
        return {}
    return open_set_from_dict(json.loads(path.read_text(encoding="utf-8")))


def _card_facts(facts: RunFacts, command: str) -> ModelCardFacts:
    config, data, state = facts.config, facts.data, facts.state
    return ModelCardFacts(
        name=Path(config.training.output_dir).resolve().name,
        encoder=config.model.encoder_path,
        revision=config.model.revision,
        encoder_is_new=config.model.init == "random",
        adapter=_adapter(config.model),
        encoder_is_tuned=config.model.learns == "all" and config.model.init == "pretrained",
        tokenizer=data.tokenizer.name,
        pooling=config.model.pooling,
        max_length_tokens=data.framing.max_length,
        classes=[
            CardClass(c.label, c.taxid, int(trained), int(validated))
            for c, trained, validated in zip(
                data.labels.classes, data.order.reads_per_class, data.validation.reads_per_class, strict=True
            )
        ],
        training_files=_as_list(config.dataset.train_fasta),
        validation_files=_as_list(config.dataset.val_fasta),
        steps=state.step,
        epochs=state.epoch + state.reads_done / data.order.reads_per_epoch,
        reads_per_step=facts.reads_per_step,
        learning_rate=config.optimizer.lr,
        precision=config.training.precision,
        hardware=_device(facts),
        plan=facts.plan,
        training_seconds=state.seconds,
        versions=package_versions(),
        command=command,
        metrics=facts.metrics,
        ranked_classes=_ranked_classes(data),
    )


def _ranked_classes(data: TrainingData) -> int | None:
    if data.taxonomy is None:
        return None
    return len(data.labels) - len(ClassTree.of(data.labels, data.taxonomy).missing)


def _training_reads(facts: RunFacts) -> str:
    data, sampling = facts.data, facts.config.dataset.sampling
    if sampling == "natural":
        return f"{len(data.train):,}"
    word = sampling if isinstance(sampling, str) else f"at most {sampling.per_class:,} of a class"
    return f"{len(data.train):,}, in each epoch {data.order.reads_per_epoch:,} of them ({word})"


def _device(facts: RunFacts) -> str:
    quantized = facts.quantization != "none"
    weights = f"{facts.quantization} and {facts.weights_dtype}" if quantized else facts.weights_dtype
    return f"{facts.device}, weights in {weights}"


def _what_is_trained(facts: RunFacts) -> str:
    model = facts.config.model
    if model.learns == "all":
        return "all weights of the encoder, and the head"
    if model.learns == "head":
        return "the head alone"
    return f"{_adapter(model)}, and the head"


def _adapter(model: ModelConfig) -> str | None:
    """The adapter in words; ``None`` for a model without one."""
    if model.learns != "adapter":
        return None
    return f"LoRA, r {model.lora.r}, alpha {model.lora.alpha:g}"


def _as_list(files: str | list[str] | None) -> Sequence[str]:
    if files is None:
        return []
    return [files] if isinstance(files, str) else files
