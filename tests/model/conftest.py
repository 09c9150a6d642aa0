"""Classifiers around the tiny encoders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from metagene_classifier.config import Config
from metagene_classifier.config_file import load_config
from metagene_classifier.model.adapter import AdapterSettings, add_adapter
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.dropout import TokenKeys
from metagene_classifier.model.encoder import EncoderSource, load_encoder
from metagene_classifier.model.saved import save_model
from metagene_classifier.training.builder import BuiltClassifier, build_classifier
from metagene_classifier.training.data import TrainingData, load_training_data
from metagene_classifier.training.settings import describe

CPU = torch.device("cpu")
CLASSES = 5


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Models of two layers gain nothing from threads, and lose much to them on a shared machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def load() -> Callable[..., torch.nn.Module]:
    """An encoder from its folder, in float32 unless told otherwise."""

    def loaded(folder: Path, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
        return load_encoder(EncoderSource(str(folder)), dtype=dtype, device=CPU, seed=0)

    return loaded


@pytest.fixture(scope="session")
def classifier_of(load) -> Callable[..., ReadClassifier]:
    """A classifier in evaluation mode around an encoder's folder."""

    def made(
        folder: Path,
        pooling: str = "mean",
        attention: str = "sdpa",
        lora: tuple[str, ...] = (),
        dropout: float = 0.0,
        pooled_only: bool = False,
    ) -> ReadClassifier:
        torch.manual_seed(1)
        encoder = load(folder)
        encoder.set_attn_implementation(attention)
        keys = TokenKeys()
        if lora:
            settings = AdapterSettings(r=4, alpha=8, dropout=dropout, target_modules=lora, bias="none")
            encoder = add_adapter(encoder, settings, encoder_name=str(folder), keys=keys, seed=0)
            as_if_trained(encoder)
        return ReadClassifier(
            encoder,
            hidden_size=32,
            classes=0 if pooled_only else CLASSES,
            pooling=pooling,
            dropout=dropout,
            keys=keys,
            compute_dtype=torch.float32,
        ).eval()

    return made


def as_if_trained(module: torch.nn.Module) -> None:
    """Give what learns values of its own: a new adapter does nothing, so half of its gradients are zero."""
    generator = torch.Generator().manual_seed(2)
    for weight in module.parameters():
        if weight.requires_grad:
            weight.data += 0.1 * torch.randn(weight.shape, generator=generator, dtype=torch.float32).to(weight.dtype)


@dataclass(frozen=True)
class Run:
    """What a training run has in hand when it saves its model."""

    config: Config
    data: TrainingData
    built: BuiltClassifier

    def save(self, folder: Path) -> Path:
        """The model, written as the run would write it."""
        folder.mkdir(parents=True)
        save_model(folder, self.built.classifier, self.data.tokenizer, describe(self.config, self.data, self.built))
        return folder


@pytest.fixture(scope="session")
def run_of(llama_encoder, labelled_files) -> Callable[..., Run]:
    """A run on the labelled reads, built from a configuration; all that learns has moved from where it began."""

    def built(**changes: Any) -> Run:
        values = {
            "device": "cpu",
            "dataset.train_fasta": str(labelled_files.train_fasta),
            "dataset.val_fasta": str(labelled_files.val_fasta),
            "dataset.mapping_tsv": str(labelled_files.mapping_tsv),
            "model.encoder_path": str(llama_encoder),
            "tokenizer.name_or_path": str(llama_encoder),
            "tokenizer.max_length": 32,
            "training.precision": "32",
        }
        config = load_config(None, values | {key.replace("__", "."): value for key, value in changes.items()})
        data = load_training_data(config, lambda line: None)
        made = build_classifier(config, classes=len(data.labels), device=CPU, tell=lambda line: None)
        as_if_trained(made.classifier)
        made.classifier.eval()
        return Run(config, data, made)

    return built
