"""From the configuration to the values that the loop, the loss and the saved model take."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from metagene_classifier import __version__
from metagene_classifier.config import Config
from metagene_classifier.errors import ConfigError, nearest
from metagene_classifier.hub import lasting_name
from metagene_classifier.model.description import (
    SCHEMA_VERSION,
    CallingFacts,
    EncoderFacts,
    LabelFacts,
    ModelDescription,
    TokenizerFacts,
)
from metagene_classifier.model.devices import dtype_name
from metagene_classifier.store.order import steps_per_epoch
from metagene_classifier.training.builder import BuiltClassifier
from metagene_classifier.training.data import TrainingData
from metagene_classifier.training.loop import LoopSettings
from metagene_classifier.training.state import RunState
from metagene_classifier.training.steps import Objective, balanced_weights

__all__ = ["describe", "loop_settings", "objective_of", "total_steps"]


def loop_settings(config: Config, data: TrainingData, state: RunState, accelerator: Any) -> LoopSettings:
    """The values that the loop acts on, from where ``state`` stands."""
    training = config.training
    stopping = training.early_stopping
    reads_per_step = training.batch_size * training.grad_accum_steps * accelerator.num_processes
    return LoopSettings(
        reads_per_step=reads_per_step,
        total_steps=total_steps(
            state,
            data.order.reads_per_epoch,
            reads_per_step,
            max_epochs=training.max_epochs,
            max_steps=training.max_steps,
        ),
        max_epochs=training.max_epochs,
        max_grad_norm=training.max_grad_norm,
        log_interval=config.logging.log_interval,
        checkpoint_every_steps=training.checkpoint.every_steps,
        save_best=training.checkpoint.save_best,
        metric=stopping.metric,
        greater_is_better=stopping.mode == "max",
        patience=stopping.patience if stopping.enabled else None,
        seed=config.seed,
    )


def total_steps(
    state: RunState, reads_per_epoch: int, reads_per_step: int, *, max_epochs: int, max_steps: int | None
) -> int:
    """Steps that a run will have taken at its end: those behind it, and those that the reads to come still make.

    A run that goes on with another number of ranks takes other steps from there, so they cannot be counted from its
    beginning.
    """
    left = steps_per_epoch(reads_per_epoch, reads_per_step) * (max_epochs - state.epoch - 1)
    left += steps_per_epoch(reads_per_epoch - state.reads_done, reads_per_step)
    steps = state.step + max(left, 0)
    return min(steps, max_steps) if max_steps is not None else steps


def objective_of(config: Config, data: TrainingData) -> Objective:
    """The loss.

    Raises:
        ConfigError: a weight is given for a label that does not exist.
    """
    asked, smoothing, training = config.loss.class_weights, config.loss.label_smoothing, config.training
    consistency = training.consistency_weight if training.reverse_complement == "consistency" else None
    if asked is None:
        return Objective(None, smoothing, consistency)
    if asked == "balanced":
        return Objective(balanced_weights(data.order.reads_per_class), smoothing, consistency)
    names = data.labels.names
    unknown = [name for name in asked if name not in names]
    if unknown:
        raise ConfigError(f"loss.class_weights: no class is called {unknown[0]!r}{nearest(unknown[0], names)}")
    weights = np.array([asked.get(name, 1.0) for name in names], np.float32)
    return Objective(torch.from_numpy(weights), smoothing, consistency)


def describe(config: Config, data: TrainingData, built: BuiltClassifier) -> ModelDescription:
    """What the saved model will say of itself."""
    model = config.model
    learns = model.learns == "all"
    facts = built.classifier.transformer.config
    return ModelDescription(
        schema_version=SCHEMA_VERSION,
        package_version=__version__,
        encoder=EncoderFacts(
            name=lasting_name(model.encoder_path),
            revision=getattr(facts, "_commit_hash", None) or model.revision,
            stored=learns,
            architecture=type(built.classifier.transformer).__name__.removeprefix("FSDP"),
            hidden_size=facts.hidden_size,
            vocab_size=facts.vocab_size,
            quantization=built.quantization,
            asked_dtype=model.dtype,
            dtype=dtype_name(built.weights_dtype),
            compute_dtype=dtype_name(built.classifier.compute_dtype),
            # Weights that are trained lie beside the description, under checksums of their own.
            probe={} if learns else built.probe,
        ),
        adapter=model.learns == "adapter",
        tokenizer=TokenizerFacts(
            kind=data.tokenizer.kind,
            name=data.tokenizer.name,
            fingerprint=data.tokenizer.fingerprint,
            add_bos=config.tokenizer.add_bos,
            add_eos=config.tokenizer.add_eos,
        ),
        labels=tuple(LabelFacts(class_id=c.class_id, label=c.label, taxid=c.taxid) for c in data.labels.classes),
        pooling=model.pooling,
        dropout=model.dropout,
        max_length=data.framing.max_length,
        long_reads=config.tokenizer.long_reads,
        window_overlap=config.tokenizer.window_overlap,
        header_regex=config.dataset.header_regex,
        calling=CallingFacts(
            min_tokens=config.calling.min_tokens,
            min_complexity=config.calling.min_complexity,
            strand=config.calling.strand,
        ),
        files={},
    )
