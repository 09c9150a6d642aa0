"""Training reads a second: this project's steps against the same model on reads padded to 512 tokens.

    python benchmarks/training_throughput.py [--quick] [--json PATH]

The model is a Llama of 3.4 million parameters in float32, all of them trained with AdamW; the reads are 150 bp of a
real genome. The two sides take turns in one run, so that a busy machine slows both.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from setting import (
    CLASSES,
    PADDED_TOKENS,
    PaddedClassifier,
    framing,
    machine,
    metagene_tokenizer,
    padded_rows,
    reads_of_genome,
    record,
    small_classifier,
    small_llama,
)
from torch.nn import functional

from metagene_classifier.batching.micro_batches import padding_share, split_into_micro_batches
from metagene_classifier.store.tokens import TokenStore
from metagene_classifier.training.fitting import UNPLANNED_TOKENS
from metagene_classifier.training.steps import Objective, backward_micro_batches, micro_batches_of, step_segments

READS_PER_STEP = 128
PADDED_READS = 16  # of a padded step: at 128 it would be no faster, and take minutes


@click.command()
@click.option("--quick", is_flag=True, help="Fewer rounds: under a minute on two cores.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here too.")
def main(quick: bool, json_path: Path | None) -> None:
    """Reads a second in training, and how many times that of padding to 512."""
    from accelerate import Accelerator

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    accelerator = Accelerator(cpu=device.type == "cpu", device_placement=False)
    store = tokenized(2048)
    frame = framing(metagene_tokenizer())
    lengths = store.lengths + frame.max_length - frame.capacity

    ours, layout = small_classifier(device)
    ours.train()
    optimizer = torch.optim.AdamW(ours.parameters(), lr=1e-4)
    padded = PaddedClassifier(small_llama(device)).train()
    padded_optimizer = torch.optim.AdamW(padded.parameters(), lr=1e-4)
    max_tokens = UNPLANNED_TOKENS[device.type]
    random = np.random.default_rng(1)

    def our_step() -> int:
        reads = random.choice(len(store), READS_PER_STEP, replace=False)
        step = step_segments(store, reads, frame, seed=0, epoch=0)
        parts = micro_batches_of(step, frame, max_tokens=max_tokens, layout=layout)
        backward_micro_batches(
            ours, parts, Objective(None, 0.0), divisor=len(reads), device=device, accelerator=accelerator
        )
        torch.nn.utils.clip_grad_norm_(ours.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return len(reads)

    def padded_step() -> int:
        reads = random.choice(len(store), PADDED_READS, replace=False)
        ids, mask = padded_rows([frame.frame(store.tokens(int(read))) for read in reads])
        classes = torch.from_numpy(store.classes[reads].astype(np.int64))
        loss = functional.cross_entropy(padded(ids.to(device), mask.to(device)), classes.to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(padded.parameters(), 1.0)
        padded_optimizer.step()
        padded_optimizer.zero_grad()
        return len(reads)

    sides = {"ours": our_step, "padded": padded_step}
    rates = reads_per_second(sides, seconds=4 if quick else 15, rounds=3)
    batches = split_into_micro_batches(
        lengths[:READS_PER_STEP], max_tokens=max_tokens, layout=layout, padded_length=PADDED_TOKENS
    )
    wasted = 0.0 if layout == "packed" else padding_share(lengths[:READS_PER_STEP], batches)
    figures: dict[str, Any] = {
        "reads_per_s": rates["ours"],
        "padded_512_reads_per_s": rates["padded"],
        "speedup_over_padded_512": rates["ours"] / rates["padded"],
        "token_ratio": PADDED_TOKENS / float(lengths.mean()),
        "layout": layout,
        "padding_share": wasted,
        **machine(device),
    }
    print(f"{'padded to 512':<28}{rates['padded']:>10.1f} reads/s")
    print(f"{'this project, ' + layout:<28}{rates['ours']:>10.1f} reads/s  ({wasted:.1%} padding)")
    speedup, tokens = figures["speedup_over_padded_512"], figures["token_ratio"]
    print(f"{'speed-up':<28}{speedup:>10.1f} times  ({tokens:.1f} times fewer tokens)")
    record(figures, json_path)


def tokenized(count: int) -> TokenStore:
    """Reads of a genome as training finds them, with classes drawn at random."""
    tokens = metagene_tokenizer().encode_batch(reads_of_genome(count))
    offsets = np.cumsum([0, *map(len, tokens)])
    classes = np.random.default_rng(2).integers(0, CLASSES, count).astype(np.int32)
    return TokenStore(np.concatenate(tokens), offsets, classes, np.arange(count, dtype=np.uint64))


def reads_per_second(sides: dict[str, Any], *, seconds: float, rounds: int) -> dict[str, float]:
    """The median rate of each side over rounds in which they take turns; the first step of each is not counted."""
    for step in sides.values():
        step()
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, step in sides.items():
            reads = 0
            started = time.perf_counter()
            while time.perf_counter() - started < seconds:
                reads += step()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
            found[name].append(reads / (time.perf_counter() - started))
    return {name: float(np.median(rates)) for name, rates in found.items()}


if __name__ == "__main__":
    main()
