"""Seconds of an epoch that trains the head alone: from embeddings made once, against the encoder in every step.

    python benchmarks/head_only.py [--quick] [--json PATH]

The encoders are Llamas with random weights in float32: two layers of hidden 32, and four of hidden 256; the reads are
150 bp of a real genome. Both sides take the same steps of 32 reads, one after the other, so that a busy machine slows
both. Embeddings go to a folder of their own, which is removed.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from setting import CLASSES, framing, machine, metagene_tokenizer, record, small_classifier, small_llama
from training_throughput import tokenized

from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.dropout import TokenKeys
from metagene_classifier.model.out_of_memory import TokenBudget
from metagene_classifier.store.order import ReadOrder, steps_of_epoch
from metagene_classifier.store.selection import Selection
from metagene_classifier.training.embed_once import Embedder, EmbeddingSource, embed_once
from metagene_classifier.training.fitting import UNPLANNED_TOKENS
from metagene_classifier.training.from_embeddings import FromEmbeddings
from metagene_classifier.training.loop import Route
from metagene_classifier.training.steps import Objective, read_keys
from metagene_classifier.training.through_encoder import ThroughEncoder

READS_PER_STEP = 32
ROUNDS = 3


@click.command()
@click.option("--quick", is_flag=True, help="Fewer reads: under a minute on two cores.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here too.")
def main(quick: bool, json_path: Path | None) -> None:
    """Seconds of an epoch through the encoder, of embedding once, and of an epoch from embeddings."""
    from accelerate import Accelerator

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    accelerator = Accelerator(cpu=device.type == "cpu", device_placement=False)
    reads = 200 if quick else 2000
    figures: dict[str, Any] = {"reads": reads, "reads_per_step": READS_PER_STEP, **machine(device)}
    print(f"{reads:,} reads{'through the encoder':>32}{'embedding once':>18}{'from embeddings':>18}")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["MGC_CACHE"] = cache
        selection = tokenized(Path(cache) / "store", reads, 150, 150)
        for name, classifier in (("hidden 32", tiny_classifier(device)), ("hidden 256", small_classifier(device)[0])):
            seconds = figures[name] = compared(classifier, name, selection, accelerator)
            row = "".join(f"{seconds[side]:>16.2f} s" for side in ("through_encoder", "embedding", "from_embeddings"))
            print(f"{name:<24}{row}  ({seconds['through_encoder'] / seconds['from_embeddings']:.0f} times)")
    record(figures, json_path)


def compared(classifier: ReadClassifier, name: str, reads: Selection, accelerator: Any) -> dict[str, float]:
    """Seconds of each side; the median over rounds for epochs from embeddings, which are short."""
    tokenizer, device = metagene_tokenizer(), accelerator.device
    frame = framing(tokenizer)
    budget = TokenBudget(UNPLANNED_TOKENS[device.type])
    classifier.encoder.eval().requires_grad_(False)
    source = EmbeddingSource(name, name, "none", "float32", "float32", "mean", tokenizer.fingerprint, frame)
    embedder = Embedder(source, classifier, classifier.head.in_features, budget, "buckets", device)
    none = Selection.of(reads.store, max_reads=0)
    sets = {"training": reads, "validation": none}
    objective = Objective(None, 0.0)
    through = ThroughEncoder(classifier, reads, none, frame, objective, budget, "buckets", accelerator)
    embedding = timed(lambda: embed_once(sets, embedder, ranks=accelerator, tell=lambda line: None))
    stored = embed_once(sets, embedder, ranks=accelerator, tell=lambda line: None)
    kept = FromEmbeddings(classifier, reads, stored["training"], stored["validation"], objective, budget, accelerator)
    return {
        "through_encoder": timed(lambda: epoch(through, classifier, reads)),
        "embedding": embedding,
        "from_embeddings": float(np.median([timed(lambda: epoch(kept, classifier, reads)) for _ in range(ROUNDS)])),
    }


def epoch(route: Route, classifier: ReadClassifier, reads: Selection) -> None:
    """All steps of an epoch, the optimizer's included."""
    optimizer = torch.optim.AdamW(classifier.head.parameters(), lr=1e-3)
    order = ReadOrder(reads, sampling="natural", shuffle="all", buffer=2**22, seed=0).epoch(0)
    for step in steps_of_epoch(order, READS_PER_STEP):
        route.add_gradients(step, read_keys(step, seed=0, epoch=0), divisor=float(len(step)))
        torch.nn.utils.clip_grad_norm_(classifier.head.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def timed(run: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def tiny_classifier(device: torch.device) -> ReadClassifier:
    """A classifier on a Llama of two layers of hidden 32."""
    from transformers import LlamaModel

    small = small_llama(torch.device("cpu")).config
    small.update({"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8})
    encoder = LlamaModel(small)
    return ReadClassifier(
        encoder,
        hidden_size=32,
        classes=CLASSES,
        pooling="mean",
        dropout=0.0,
        keys=TokenKeys(),
        compute_dtype=torch.float32,
    ).to(device)


if __name__ == "__main__":
    main()
