"""From the name that a user gives to a model that scores reads: a trained one, or a bare encoder for embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from metagene_classifier.batching.batch import TokenBatch
from metagene_classifier.batching.framing import framing_for
from metagene_classifier.calling.calibrated import Calibrator
from metagene_classifier.errors import ConfigError, EncoderError, ModelFolderError
from metagene_classifier.hub import encoder_config_for, is_local, resolve_encoder_folder
from metagene_classifier.memory.device import device_memory
from metagene_classifier.model.centroids import Centroids, run_with_embedding
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.description import read_description
from metagene_classifier.model.devices import choose_device, choose_dtypes
from metagene_classifier.model.dropout import TokenKeys
from metagene_classifier.model.encoder import EncoderSource, load_encoder
from metagene_classifier.model.packing import choose_layout
from metagene_classifier.model.quantization import Quantization
from metagene_classifier.model.saved import (
    ENCODER_FOLDER,
    TOKENIZER_FOLDER,
    LoadedModel,
    find_model_folder,
    inference_dtypes,
    load_model,
)
from metagene_classifier.prediction.preparing import LongReads, Preparer, Strand
from metagene_classifier.prediction.scorer import Beyond, Scorer
from metagene_classifier.prediction.token_budget import budget_for, check_encoder_fits, tokens_asked
from metagene_classifier.tokenization.choice import check_fits, choose_tokenizer, context_of, vocabulary_of
from metagene_classifier.tokenization.saved import load_saved_tokenizer

__all__ = ["ScorerRecipe", "embedder_for", "folder_of", "has_bf16_units", "open_model", "scorer_for"]


def folder_of(ckpt: str) -> Path:
    """The folder of the trained model that ``--ckpt`` names.

    Raises:
        ModelFolderError: there is no trained model; the message says what is there instead.
    """
    folder = find_model_folder(Path(ckpt))
    if folder is None:
        raise ModelFolderError(_no_model_there(ckpt))
    return folder


def open_model(
    ckpt: str,
    *,
    device: str,
    device_map: str | None,
    quantization: Quantization | None,
    trust_remote_code: bool,
    tell: Callable[[str], None],
    cpu_bf16: bool = False,
) -> LoadedModel:
    """The trained model that ``--ckpt`` names.

    Raises:
        ModelFolderError: there is no trained model; the message says what is there instead.
        ConfigError: ``cpu_bf16`` where it is no gain.
        DeviceMemoryError: its encoder does not fit in the device's memory.
    """
    folder = folder_of(ckpt)
    if device_map is None:
        _check_fits(folder, device, quantization, trust_remote_code)
    if cpu_bf16:
        _check_bf16(folder, device, device_map, quantization)
    return load_model(
        folder,
        device=device,
        device_map=device_map,
        quantization=quantization,
        tell=tell,
        trust_remote_code=trust_remote_code,
        in_bfloat16=cpu_bf16,
    )


def has_bf16_units() -> bool:
    """Whether this CPU multiplies matrices in bfloat16 faster than in float32."""
    # torch has no public name for either; where it has another one day, the answer is no, and float32 is right.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def _check_bf16(folder: Path, device: str, device_map: str | None, quantization: Quantization | None) -> None:
    if device_map is not None or choose_device(device, lambda line: None).type != "cpu":
        raise ConfigError("--cpu-bf16 is for --device cpu: other devices compute as the model was trained")
    if (quantization or read_description(folder).encoder.quantization) != "none":
        raise ConfigError("--cpu-bf16 is for full weights: use it with --quantization none, or leave it out")
    if not has_bf16_units():
        raise ConfigError("--cpu-bf16: this CPU has no units for bfloat16 (AVX512-BF16, AMX): float32 is faster here")


def _check_fits(folder: Path, device: str, quantization: Quantization | None, trust_remote_code: bool) -> None:
    target = choose_device(device, lambda line: None)
    if target.type != "cuda":
        return  # nothing is refused there, and the folder's files need not be read twice
    facts = read_description(folder)
    encoder = facts.encoder
    weights, compute = inference_dtypes(encoder, target)
    name = str(folder / ENCODER_FOLDER) if encoder.stored else encoder.name
    revision = None if encoder.stored else encoder.revision
    check_encoder_fits(
        encoder_config_for(name, revision, trust_remote_code=trust_remote_code),
        name=name,
        quantization=quantization or encoder.quantization,
        weights=weights,
        compute=compute,
        longest=facts.max_length,
        memory=device_memory(target, None),
    )


def scorer_for(
    model: LoadedModel,
    *,
    batch_size: int | None,
    max_tokens: int | None,
    long_reads: LongReads | None,
    embed: bool,
    tell: Callable[[str], None],
    strand: Strand | None = None,
) -> Scorer:
    """A trained model's class scores, or its embeddings.

    Args:
        model: loaded.
        batch_size: see :func:`tokens_asked`.
        max_tokens: likewise.
        long_reads: what happens to reads that do not fit one segment; as the model has it by default.
        embed: embeddings instead of scores.
        tell: called with lines for the user.
        strand: how many strands of a read are scored; as the model has it by default, one for embeddings.

    Raises:
        ModelFolderError: a file that calibration needs is damaged.
    """
    facts = model.description
    run: Callable[[TokenBatch], torch.Tensor] = model.classifier.embed if embed else model.classifier
    beyond: Beyond | None = None
    if not embed and Calibrator(facts.calibration).needs_embedding:
        run = run_with_embedding(model.classifier)
        beyond = Beyond(facts.encoder.hidden_size, Centroids.load(model.folder).distances_on(model.device))
    return Scorer(
        run=run,
        width=facts.encoder.hidden_size if embed else len(facts.labels),
        tokenizer=model.tokenizer,
        framing=framing_for(model.tokenizer, facts.max_length, facts.window_overlap),
        layout=model.layout,
        budget=budget_for(
            model.classifier,
            asked=tokens_asked(batch_size, max_tokens, facts.max_length),
            longest=facts.max_length,
            layout=model.layout,
            device=model.device,
            tell=tell,
        ),
        device=model.device,
        long_reads=long_reads or facts.long_reads,
        strand=strand or ("single" if embed else facts.calling.strand),
        complexity=not embed and facts.calling.min_complexity > 0,
        beyond=beyond,
    )


@dataclass(frozen=True)
class ScorerRecipe:
    """How a trained model is to be opened, here or in the worker of a cluster.

    Attributes:
        folder: the model's.
        device: see :func:`choose_device`.
        device_map: ``auto`` spreads the encoder over all devices.
        quantization: of the encoder; as it was trained by default.
        batch_size: see :func:`tokens_asked`.
        max_tokens: likewise.
        long_reads: what happens to reads that do not fit one segment; as the model has it by default.
        trust_remote_code: run the Python files of the encoder's own repository.
        cpu_bf16: hold and compute in bfloat16 on a CPU that has units for it.
        strand: how many strands of a read are scored; as the model has it by default.
    """

    folder: Path
    device: str = "auto"
    device_map: str | None = None
    quantization: Quantization | None = None
    batch_size: int | None = None
    max_tokens: int | None = None
    long_reads: LongReads | None = None
    trust_remote_code: bool = False
    cpu_bf16: bool = False
    strand: Strand | None = None

    def open(self, tell: Callable[[str], None]) -> tuple[LoadedModel, Scorer]:
        """The model, and its class scores; raises as :func:`open_model`."""
        model = open_model(
            str(self.folder),
            device=self.device,
            device_map=self.device_map,
            quantization=self.quantization,
            trust_remote_code=self.trust_remote_code,
            tell=tell,
            cpu_bf16=self.cpu_bf16,
        )
        scorer = scorer_for(
            model,
            batch_size=self.batch_size,
            max_tokens=self.max_tokens,
            long_reads=self.long_reads,
            embed=False,
            tell=tell,
            strand=self.strand,
        )
        return model, scorer

    def preparer(self) -> Preparer:
        """What makes reads ready for the model; its weights stay where they are.

        Raises:
            MgcError: the folder is damaged.
        """
        facts = read_description(self.folder)
        tokenizer = load_saved_tokenizer(self.folder / TOKENIZER_FOLDER, trust_remote_code=self.trust_remote_code)
        framing = framing_for(tokenizer, facts.max_length, facts.window_overlap)
        return Preparer(
            tokenizer,
            framing,
            self.long_reads or facts.long_reads,
            strand=self.strand or facts.calling.strand,
            complexity=facts.calling.min_complexity > 0,
        )


def embedder_for(
    ckpt: str,
    *,
    revision: str | None,
    device: str,
    device_map: str | None,
    quantization: Quantization | None,
    batch_size: int | None,
    max_tokens: int | None,
    long_reads: LongReads | None,
    trust_remote_code: bool,
    tell: Callable[[str], None],
) -> Scorer:
    """Embeddings from a trained model or, with its own tokenizer and mean pooling, from a bare encoder.

    Raises:
        MgcError: it is neither, or cannot be loaded.
    """
    if find_model_folder(Path(ckpt)) is not None:
        model = open_model(
            ckpt,
            device=device,
            device_map=device_map,
            quantization=quantization,
            trust_remote_code=trust_remote_code,
            tell=tell,
        )
        return scorer_for(
            model, batch_size=batch_size, max_tokens=max_tokens, long_reads=long_reads, embed=True, tell=tell
        )
    tokenizer = choose_tokenizer(
        name_or_path=ckpt,
        use_hf_tokenizer=True,
        encoder=ckpt,
        revision=revision,
        encoder_is_new=False,
        add_bos=True,
        add_eos=True,
        trust_remote_code=trust_remote_code,
        tell=tell,
    )
    facts = encoder_config_for(ckpt, revision, trust_remote_code=trust_remote_code)
    context = context_of(facts)
    max_length = check_fits(
        tokenizer, vocab_size=vocabulary_of(facts, ckpt), context=context, max_length=context or 512, tell=tell
    )
    target = choose_device(device, tell)
    weights, compute = choose_dtypes(
        asked="auto", precision="bf16-mixed", device=target, encoder_learns=False, tell=lambda line: None
    )
    source = EncoderSource(ckpt, revision, trust_remote_code=trust_remote_code)
    if device_map is None:
        check_encoder_fits(
            facts,
            name=ckpt,
            quantization=quantization or "none",
            weights=weights,
            compute=compute,
            longest=max_length,
            memory=device_memory(target, None),
        )
    encoder = load_encoder(
        source,
        dtype=weights,
        device=target,
        seed=0,
        device_map=device_map,
        quantization=quantization or "none",
        compute_dtype=compute,
        tell=tell,
    )
    layout = choose_layout(encoder, "auto", "auto", compute, target)
    width = int(encoder.config.hidden_size)
    classifier = ReadClassifier(
        encoder,
        hidden_size=width,
        classes=0,
        pooling="mean",
        dropout=0.0,
        keys=TokenKeys(),
        compute_dtype=compute,
    ).eval()
    return Scorer(
        run=classifier.embed,
        width=width,
        tokenizer=tokenizer,
        framing=framing_for(tokenizer, max_length, 0.125),
        layout=layout,
        budget=budget_for(
            classifier,
            asked=tokens_asked(batch_size, max_tokens, max_length),
            longest=max_length,
            layout=layout,
            device=target,
            tell=tell,
        ),
        device=target,
        long_reads=long_reads or "window",
    )


def _no_model_there(ckpt: str) -> str:
    """What stands where a trained model was expected, and what to do about it."""
    bare = (
        f"{ckpt} is an encoder without a head: it has no classes to call. Train one (mgc train --set "
        f"model.encoder_path={ckpt} …), or write its embeddings with 'mgc embed --ckpt {ckpt} …'"
    )
    path = Path(ckpt)
    if path.is_dir() or is_local(ckpt):
        try:
            resolve_encoder_folder(ckpt, weights=False)
        except EncoderError:
            return f"{ckpt} holds no trained model (no metagene_classifier.json in it, nor in best/ or last/)"
        return bare
    if path.exists():
        return f"{ckpt} is a file: give the trained model's folder"
    if ckpt.count("/") == 1 and not ckpt.startswith((".", "/", "~")) and not path.parent.exists():
        return f"{ckpt}: no such folder here; if the hub's encoder of that name is meant, {bare}"
    return f"{ckpt}: no such folder: give a trained model's folder, or the folder of the run that made it"
