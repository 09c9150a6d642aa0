"""What a training run leaves for people: the model's card, and the report on its validation reads."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from metagene_classifier.config import ModelConfig
from metagene_classifier.config_file import config_yaml
from metagene_classifier.report.evaluation import write_evaluation
from metagene_classifier.report.model_card import CardClass, ModelCardFacts, model_card
from metagene_classifier.training.run import RunFacts, TrainingResult

__all__ = ["write_model_card", "write_training_report"]

PACKAGES = ("metagene-classifier", "torch", "transformers", "peft", "accelerate", "tokenizers", "bitsandbytes")


def write_model_card(folder: Path, facts: RunFacts, *, command: str) -> None:
    """Write ``README.md`` and the resolved ``config.yaml`` into a model's folder."""
    (folder / "README.md").write_text(model_card(_card_facts(facts, command)), encoding="utf-8")
    (folder / "config.yaml").write_text(config_yaml(facts.config), encoding="utf-8")


def write_training_report(output_dir: Path, result: TrainingResult, *, command: str) -> None:
    """Write metrics, tables, pictures and ``report.html`` of the run's model on its validation reads.

    A run without validation reads has no figures to report, and nothing is written.
    """
    if result.metrics is None:
        return
    facts, config = result.facts, result.facts.config
    write_evaluation(
        output_dir,
        metrics=result.metrics,
        title="Training and validation",
        facts={
            "Model": str(result.model_folder),
            "Encoder": config.model.encoder_path,
            "Trained": _what_is_trained(facts),
            "Training reads": _training_reads(facts),
            "Validation reads": f"{len(facts.data.validation):,}",
            "Steps": f"{facts.state.step:,} ({facts.state.finished})",
            "Best": f"step {facts.state.best_step:,}, {config.training.early_stopping.metric}",
            "Device": _device(facts),
            **({"Plan": facts.plan} if facts.plan else {}),
            "Time": f"{facts.state.seconds:.0f} s in training steps",
            "Versions": ", ".join(f"{name} {number}" for name, number in _versions().items()),
            "Command": command,
        },
        warnings=facts.data.warnings,
        confusion_matrix=config.metrics.confusion_matrix,
        per_class_report=config.metrics.per_class_report,
        history=result.history,
        primary=config.metrics.primary,
    )


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
        versions=_versions(),
        command=command,
        metrics=facts.metrics,
    )


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


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
