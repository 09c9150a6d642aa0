"""How well a trained model would know strangers: taxa left out of its head, on labelled reads of any kind."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import torch

from metagene_classifier.calling.open_set import Embedded, figures_of, leave_taxa_out
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.metrics.open_set import OpenSetFigures
from metagene_classifier.model.saved import LoadedModel
from metagene_classifier.prediction.scorer import Scorer
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.reads.headers import mate_key
from metagene_classifier.reads.read import Read

__all__ = ["open_set_of_reads"]

LEAST_PER_CLASS = 2


def open_set_of_reads(
    model: LoadedModel,
    embedder: Scorer,
    reads: Iterable[tuple[Read, int]],
    *,
    most: int = 8192,
    folds: int = 10,
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, OpenSetFigures]:
    """Leave the classes out, fold by fold, of heads that are fitted on one half of the reads and tried on the other.

    The encoder stays as it is, so it has seen the classes left out, unless the head alone was trained. Mates are in
    one half.

    Args:
        model: whose classes and head are meant.
        embedder: the model's embeddings: ``scorer_for(model, embed=True, …)``.
        reads: with the place of their class among the model's; they are gone through once.
        most: reads of all classes together that are kept, about as many of each; at least two of a class.
        folds: at most.
        seed: of what is drawn and of the folds.
        tell: called with a line where there is nothing to find.

    Returns:
        Figures by the name of the score; empty where fewer than three classes have reads in both halves.
    """
    tree = ClassTree.of(model.description.label_table(), model.taxonomy)
    kept = _drawn(reads, max(LEAST_PER_CLASS, most // len(tree.labels)), seed)
    of_classes = np.array([number for _, number in kept], np.int64)
    blocks = list(embedder.stream((read for read, _ in kept), StreamReport()))
    if blocks:
        values = np.concatenate([block.values for block in blocks])
        has_base = np.concatenate([block.bases for block in blocks]) > 0
        to_learn = _half([read.header for read, _ in kept])
        scores = _scores(model, values)
        fit, scored = (
            Embedded(values[half], scores[half], of_classes[half])
            for half in (has_base & to_learn, has_base & ~to_learn)
        )
        found = leave_taxa_out(fit, scored, tree, folds=folds, seed=seed)
        if found:
            return {str(name): one for name, one in figures_of(found, tree).items()}
    tell("no taxa were left out: reads of at least three classes are needed, several of each")
    return {}


def _half(headers: list[str]) -> npt.NDArray[np.bool_]:
    """One half of the reads, mates together; reads whose headers hold no names are told apart by their places."""
    keys = [mate_key(header) for header in headers]
    times = Counter(keys)
    words = [key if times[key] <= 2 else f"{key} {place}" for place, key in enumerate(keys)]
    return np.array([zlib.crc32(word.encode("utf-8", "surrogateescape")) % 2 == 0 for word in words])


def _drawn(reads: Iterable[tuple[Read, int]], per_class: int, seed: int) -> list[tuple[Read, int]]:
    """So many reads of each class, drawn as they go by (Vitter's algorithm R), in the order of the classes."""
    generator = np.random.default_rng(seed)
    held: dict[int, list[Read]] = {}
    seen: dict[int, int] = {}
    for read, number in reads:
        place = seen.get(number, 0)
        seen[number] = place + 1
        if place < per_class:
            held.setdefault(number, []).append(read)
        elif (drawn := int(generator.integers(place + 1))) < per_class:
            held[number][drawn] = read
    return [(read, number) for number in sorted(held) for read in held[number]]


def _scores(model: LoadedModel, values: np.ndarray) -> np.ndarray:
    head = model.classifier.head
    assert head is not None
    rows = 4096
    with torch.inference_mode():
        parts = [
            head(torch.from_numpy(values[start : start + rows]).to(head.weight.device)).float().cpu().numpy()
            for start in range(0, len(values), rows)
        ]
    return np.concatenate(parts)
