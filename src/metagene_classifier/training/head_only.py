"""A run that trains the head alone: which embeddings it needs, and the encoder let go once they are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from metagene_classifier.cache import caching_is_off
from metagene_classifier.config import Config
from metagene_classifier.hub import lasting_name, resolve_encoder_folder
from metagene_classifier.model.devices import dtype_name
from metagene_classifier.model.out_of_memory import TokenBudget
from metagene_classifier.model.quantized_cache import files_identity
from metagene_classifier.training.builder import BuiltClassifier
from metagene_classifier.training.data import TrainingData
from metagene_classifier.training.embed_once import Embedder, EmbeddingSource, embed_once, forget_weights
from metagene_classifier.training.embeddings import StoredEmbeddings
from metagene_classifier.training.strands import both_strands_of

__all__ = ["OTHER_STRAND", "embeddings_for_head"]

OTHER_STRAND = "reverse-complemented training"
"""The name of the training reads' other strand among the embeddings."""


def embeddings_for_head(
    config: Config,
    data: TrainingData,
    built: BuiltClassifier,
    *,
    budget: TokenBudget,
    device: torch.device,
    tell: Callable[[str], None],
) -> dict[str, StoredEmbeddings] | None:
    """Embeddings of the ``training`` and the ``validation`` reads, for a run that trains the head alone.

    Where it learns from both strands, those of the training reads' other strand are there as :data:`OTHER_STRAND`.

    The encoder's weights are given back: nothing of such a run needs them any more.

    Args:
        config: of the run, with no ``auto`` left that decides memory.
        data: the reads.
        built: the classifier; its encoder is frozen.
        budget: tokens of a micro-batch.
        device: of the encoder.
        tell: called with lines for the user.

    Returns:
        ``None`` where more than the head is trained, or nothing may be kept in the cache.

    Raises:
        MgcError, KeyboardInterrupt: as :func:`embed_once`.
    """
    if config.model.freeze != "encoder":
        return None
    if caching_is_off():
        tell("MGC_NO_CACHE is set: the encoder runs in every epoch, since its embeddings cannot be kept")
        return None
    from accelerate import PartialState

    model = config.model
    folder = resolve_encoder_folder(
        model.encoder_path, model.revision, weights=True, trust_remote_code=model.trust_remote_code
    )
    classifier = built.classifier
    embedder = Embedder(
        source=EmbeddingSource(
            encoder=lasting_name(model.encoder_path),
            files=files_identity(folder),
            quantization=built.quantization,
            weights_dtype=dtype_name(built.weights_dtype),
            compute_dtype=dtype_name(classifier.compute_dtype),
            pooling=model.pooling,
            tokenizer=data.tokenizer.fingerprint,
            framing=data.framing,
        ),
        classifier=classifier.eval(),
        hidden=int(classifier.transformer.config.hidden_size),
        budget=budget,
        layout=built.layout,
        device=device,
    )
    sets = {"training": data.train, "validation": data.validation}
    turning = {}
    strands = both_strands_of(config.training.reverse_complement, data.tokenizer)
    if strands is not None:
        sets[OTHER_STRAND] = data.train
        turning[OTHER_STRAND] = replace(embedder, source=replace(embedder.source, turned=True), turn=strands.of)
    embeddings = embed_once(sets, embedder, turning, ranks=PartialState(cpu=device.type == "cpu"), tell=tell)
    forget_weights(classifier.encoder, device)
    return embeddings
