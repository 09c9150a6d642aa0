"""The folder that a trained model is: written as a whole, checked when it is read.

Beside our description, head and tokenizer stand the files that PEFT knows an adapter by, so that the adapter also loads
with PEFT alone. An encoder whose own weights were trained lies in ``encoder/``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from metagene_classifier.batching.micro_batches import Layout
from metagene_classifier.errors import EncoderError, ModelFolderError
from metagene_classifier.model.adapter import load_adapter, save_adapter
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.description import (
    DESCRIPTION_FILE,
    EncoderFacts,
    ModelDescription,
    file_digests,
    read_description,
    write_description,
)
from metagene_classifier.model.devices import choose_device, choose_dtypes
from metagene_classifier.model.dropout import TokenKeys
from metagene_classifier.model.encoder import EncoderSource, load_encoder, probe_matches
from metagene_classifier.model.packing import choose_layout
from metagene_classifier.model.quantization import Quantization
from metagene_classifier.model.quiet import quiet_transformers
from metagene_classifier.model.sharding import is_sharded, restore_encoder, save_encoder
from metagene_classifier.reads.taxonomy import Taxonomy
from metagene_classifier.tokenization.saved import load_saved_tokenizer, save_tokenizer
from metagene_classifier.tokenization.tokenizer import ReadTokenizer
from metagene_classifier.whole_files import disk_full_is_clear, let_others_read

__all__ = [
    "ENCODER_FOLDER",
    "LoadedModel",
    "find_model_folder",
    "inference_dtypes",
    "load_model",
    "recover_folder",
    "replace_folder",
    "restore_weights",
    "save_model",
]

HEAD_FILE = "head.safetensors"
ENCODER_FOLDER = "encoder"
TOKENIZER_FOLDER = "tokenizer"
TAXONOMY_FILE = "taxonomy.tsv"


@dataclass(frozen=True)
class LoadedModel:
    """A trained model, ready to score reads."""

    folder: Path
    classifier: ReadClassifier
    tokenizer: ReadTokenizer
    description: ModelDescription
    device: torch.device
    layout: Layout
    taxonomy: Taxonomy | None = None


def save_model(
    folder: Path,
    classifier: ReadClassifier,
    tokenizer: ReadTokenizer,
    description: ModelDescription,
    taxonomy: Taxonomy | None = None,
) -> None:
    """Write a model into an existing, empty folder; ``description.files`` is filled here.

    Args:
        folder: of the model.
        classifier: encoder and head.
        tokenizer: the encoder's.
        description: of the model.
        taxonomy: of the classes; they and their ancestors are kept.
    """
    assert classifier.head is not None
    save_file({name: tensor.contiguous() for name, tensor in classifier.head.state_dict().items()}, folder / HEAD_FILE)
    if description.adapter:
        save_adapter(classifier.encoder, folder)
    if description.encoder.stored:
        if is_sharded(classifier):
            save_encoder(classifier.transformer, folder / ENCODER_FOLDER)
        else:
            with quiet_transformers():
                classifier.transformer.save_pretrained(folder / ENCODER_FOLDER, safe_serialization=True)
    save_tokenizer(tokenizer, folder / TOKENIZER_FOLDER)
    if taxonomy is not None:
        taxonomy.subset(taxid for taxid in description.label_table().taxids if taxid).save(folder / TAXONOMY_FILE)
        description = description.model_copy(update={"taxonomy": True})
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    write_description(folder, description.model_copy(update={"files": file_digests(folder, names)}))


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a new folder, then put it in the place of ``folder``, which is whole at every moment."""
    new = folder.with_name(folder.name + ".partial")
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(new, ignore_errors=True)
    try:
        with disk_full_is_clear(folder):
            new.mkdir(parents=True)
            write(new)
            let_others_read(new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(folder: Path) -> None:
    """Put the old folder back where :func:`replace_folder` was killed between taking it away and bringing the new."""
    old = folder.with_name(folder.name + ".old")
    if old.is_dir() and not folder.exists():
        os.replace(old, folder)


def find_model_folder(path: Path) -> Path | None:
    """The model's folder that ``--ckpt`` means: itself, or the best (else the last) model of a run's folder.

    ``None`` when there is no trained model at all. Of a folder caught between two renames the old one is taken.
    """
    for folder in (path, path / "best", path / "last"):
        for candidate in (folder, folder.parent / f"{folder.name}.old"):
            if (candidate / DESCRIPTION_FILE).is_file():
                return candidate
    return None


def load_model(
    folder: Path,
    *,
    device: str,
    device_map: str | None = None,
    tell: Callable[[str], None],
    trust_remote_code: bool = False,
    quantization: Quantization | None = None,
    in_bfloat16: bool = False,
) -> LoadedModel:
    """Load a trained model for prediction.

    Args:
        folder: of the model itself (see :func:`find_model_folder`).
        device: ``cuda``, ``mps`` or ``cpu``.
        device_map: ``auto`` spreads the encoder over all devices.
        tell: called with lines for the user.
        trust_remote_code: run the Python files of the encoder's own repository.
        quantization: of the encoder's linear layers; that which it was trained with by default.
        in_bfloat16: hold and compute in bfloat16, whatever the model was trained in.

    Raises:
        ModelFolderError: the folder is damaged, too new, or made for another encoder.
        EncoderError: the encoder that it stands on cannot be loaded.
    """
    description = read_description(folder)
    facts = description.encoder
    target = choose_device(device, tell)
    weights, compute = (torch.bfloat16, torch.bfloat16) if in_bfloat16 else inference_dtypes(facts, target)
    name = str(folder / ENCODER_FOLDER) if facts.stored else facts.name
    held = facts.quantization if quantization is None else quantization
    if held != facts.quantization:
        trained = _named(facts.quantization)
        tell(f"{folder} was trained on {trained} and is used on {_named(held)}: scores shift a little")
    source = EncoderSource(name, None if facts.stored else facts.revision, trust_remote_code=trust_remote_code)
    try:
        encoder = load_encoder(
            source,
            dtype=weights,
            device=target,
            seed=0,
            device_map=device_map,
            quantization=held,
            compute_dtype=compute,
            tell=tell,
        )
    except EncoderError as error:
        raise EncoderError(f"{folder} stands on an encoder that cannot be loaded: {error}") from error
    if not probe_matches(encoder, facts.probe):
        raise ModelFolderError(
            f"{folder} was trained on another encoder than the {name} that is found here: "
            f"use the same revision ({facts.revision or 'unknown'}) or the folder that it was trained with"
        )
    layout = choose_layout(encoder, "auto", "auto", compute, target)
    tokenizer = load_saved_tokenizer(folder / TOKENIZER_FOLDER, trust_remote_code=trust_remote_code)
    if tokenizer.fingerprint != description.tokenizer.fingerprint:
        raise ModelFolderError(f"{folder}/{TOKENIZER_FOLDER} is another tokenizer than the model was trained with")
    keys = TokenKeys()
    if description.adapter:
        encoder = load_adapter(encoder, folder, keys=keys, trainable=False)
    classifier = ReadClassifier(
        encoder,
        hidden_size=facts.hidden_size,
        classes=len(description.labels),
        pooling=description.pooling,
        dropout=description.dropout,
        keys=keys,
        compute_dtype=compute,
    )
    load_head(classifier, folder)
    if device_map is None:
        classifier.to(target)
    taxonomy = Taxonomy.load(folder / TAXONOMY_FILE) if description.taxonomy else None
    return LoadedModel(folder, classifier.eval(), tokenizer, description, target, layout, taxonomy)


def _named(quantization: Quantization) -> str:
    return "full weights" if quantization == "none" else f"{quantization} weights"


def inference_dtypes(facts: EncoderFacts, device: torch.device) -> tuple[torch.dtype, torch.dtype]:
    """Number formats of a trained model's encoder on a device: of its weights, and of its arithmetic.

    Prediction never updates a weight, so also an encoder that was trained in float32 is held as it is computed.
    """
    precision = {"bfloat16": "bf16-mixed", "float16": "fp16-mixed", "float32": "32"}[facts.compute_dtype]
    return choose_dtypes(
        asked=facts.asked_dtype, precision=precision, device=device, encoder_learns=False, tell=lambda line: None
    )


def load_head(classifier: ReadClassifier, folder: Path) -> None:
    """Put the saved head's weights into a classifier.

    Raises:
        ModelFolderError: they are missing, damaged, or of another shape.
    """
    assert classifier.head is not None
    try:
        classifier.head.load_state_dict(load_file(folder / HEAD_FILE))
    except (OSError, SafetensorError, RuntimeError) as error:
        first = " ".join(str(error).split())[:200]
        raise ModelFolderError(f"{folder / HEAD_FILE}: the head cannot be loaded: {first}") from error


def restore_weights(classifier: ReadClassifier, folder: Path) -> None:
    """Put a saved model's trained weights into a classifier of the same shape, in place.

    Raises:
        ModelFolderError: the folder is damaged, or holds a model of another shape.
    """
    description = read_description(folder)
    load_head(classifier, folder)
    try:
        if description.adapter:
            from peft import load_peft_weights, set_peft_model_state_dict

            set_peft_model_state_dict(classifier.encoder, load_peft_weights(str(folder), device="cpu"))
        if description.encoder.stored:
            files = sorted((folder / ENCODER_FOLDER).glob("*.safetensors"))
            if is_sharded(classifier):
                restore_encoder(classifier.transformer, files)
            else:
                weights: dict[str, torch.Tensor] = {}
                for shard in files:
                    weights |= load_file(shard)
                classifier.transformer.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        first = " ".join(str(error).split())[:200]
        raise ModelFolderError(f"{folder}: its weights do not fit this run's model: {first}") from error
