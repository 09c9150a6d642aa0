"""Training throughput: this project's steps against padding, as it was done earlier and as it is best done today.

    python benchmarks/training_throughput.py [--quick] [--cpu-seconds] [--json PATH]

Three sets of reads are cut from a real genome: 150 bp, 100 to 300 bp, and 1 to 8 kb (of which a step takes one window
of 512 tokens each). The rivals run the same model on the same reads: rows padded to 512 tokens (for 150 bp alone), and
dynamic padding with grouping by length: reads of 50 steps are sorted by length, a step takes reads of like length, and
a micro-batch is as wide as its longest. The model is a Llama of 3.4 million parameters in float32, all of them trained
with AdamW. The sides take turns in one run, so that a busy machine slows all.

The share of a step that is spent on getting its reads (order, tokens, segments, micro-batches) is measured on this
project's side, and how evenly ranks share the tokens of a step is worked out.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
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
    store_of_reads,
)
from torch.nn import functional

from metagene_classifier.store.order import ReadOrder
from metagene_classifier.store.selection import Selection
from metagene_classifier.training.fitting import UNPLANNED_TOKENS
from metagene_classifier.training.shares import fair_shares
from metagene_classifier.training.steps import (
    Objective,
    backward_micro_batches,
    micro_batches_of,
    read_keys,
    step_segments,
)

MEGA_BATCH_STEPS = 50  # whose reads the rival sorts together: what transformers' group_by_length takes
PADDED_READS = 16  # of a step padded to 512: at 128 it would be no faster, and take minutes
SETS = {"150 bp": (150, 150, 128), "100-300 bp": (100, 300, 128), "1-8 kb": (1000, 8000, 32)}
"""Shortest and longest read in bases, and reads of a step."""


@click.command()
@click.option("--quick", is_flag=True, help="Fewer rounds: about a minute on two cores.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=None, help="Of a round; 12 by default.")
@click.option("--cpu-seconds", is_flag=True, help="Count this process's CPU time: on a CPU busy with other work.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here too.")
def main(quick: bool, seconds: float | None, cpu_seconds: bool, json_path: Path | None) -> None:
    """Real tokens and reads a second in training, against padding; the share of time that getting reads takes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = time.process_time if cpu_seconds else time.perf_counter
    seconds = seconds or (3 if quick else 12)
    figures: dict[str, Any] = {"sets": {}, "cpu_seconds": cpu_seconds, **machine(device)}
    print(f"{'reads':<12}{'side':<32}{'reads/s':>10}{'real tokens/s':>15}{'padding':>9}{'getting reads':>15}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (shortest, longest, per_step) in SETS.items():
            steps = 2 * MEGA_BATCH_STEPS
            selection = tokenized(Path(folder) / name, steps * per_step, shortest, longest)
            found = compared(selection, per_step, device, padded=name == "150 bp", seconds=seconds, clock=clock)
            figures["sets"][name] = found
            for side, row in found.items():
                share = f"{row['data_share']:>14.2%}" if "data_share" in row else ""
                print(
                    f"{name:<12}{side:<32}{row['reads_per_s']:>10.1f}{row['tokens_per_s']:>15,.0f}"
                    f"{row['padding_share']:>9.1%}{share}"
                )
            ours, *rivals = found.items()
            for side, row in rivals:
                ratio = ours[1]["tokens_per_s"] / row["tokens_per_s"]
                row["speedup"] = ratio
                print(f"{'':<12}{ours[0]} over {side}: {ratio:.2f} times")
            if name == "1-8 kb":
                figures["balance"] = balances(selection)
    for name, row in figures["balance"].items():
        print(f"{name}: largest share over the mean {row['by_reads']:.2f} by reads, {row['by_tokens']:.3f} by tokens")
    record(figures, json_path)


def tokenized(folder: Path, count: int, shortest_bp: int, longest_bp: int) -> Selection:
    """Reads of a genome as training finds them, with classes drawn at random."""
    lengths = np.random.default_rng(3).integers(shortest_bp, longest_bp + 1, count)
    classes = np.random.default_rng(2).integers(0, CLASSES, count).astype(np.int32)
    return Selection.of(store_of_reads(folder, reads_of_genome(count, lengths_bp=lengths), classes))


def compared(
    selection: Selection,
    per_step: int,
    device: torch.device,
    *,
    padded: bool,
    seconds: float,
    clock: Callable[[], float],
) -> dict[str, dict[str, float]]:
    """The median rates of each side over rounds in which they take turns; the first step of each is not counted."""
    max_tokens = UNPLANNED_TOKENS[device.type]
    ours = _Ours(selection, per_step, device, max_tokens, clock)
    sides: dict[str, Any] = {f"this project, {ours.layout}": ours}
    sides["dynamic padding by length"] = _Grouped(selection, per_step, device, max_tokens)
    if padded:
        sides["padded to 512"] = _Padded(selection, device)
    runs = {name: side.run for name, side in sides.items()}
    rates = reads_per_second(runs, seconds=seconds, rounds=3, clock=clock)
    found = {
        name: {
            "reads_per_s": rates[name],
            "tokens_per_s": rates[name] * side.real / side.reads,
            "padding_share": 1 - side.real / side.computed,
        }
        for name, side in sides.items()
    }
    found[next(iter(sides))] |= {
        "data_share": ours.data_seconds / ours.seconds,
        "data_microseconds_per_read": 1e6 * ours.data_seconds / ours.reads,
    }
    return found


def reads_per_second(
    sides: dict[str, Any], *, seconds: float, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """The median rate of each side over rounds in which they take turns; the first step of each is not counted."""
    for step in sides.values():
        step()
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, step in sides.items():
            reads = 0
            started = clock()
            while clock() - started < seconds:
                reads += step()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
            found[name].append(reads / (clock() - started))
    return {name: float(np.median(rates)) for name, rates in found.items()}


class _Ours:
    """Steps as the training loop takes them."""

    def __init__(
        self,
        selection: Selection,
        per_step: int,
        device: torch.device,
        max_tokens: int,
        clock: Callable[[], float],
    ) -> None:
        from accelerate import Accelerator

        self.accelerator = Accelerator(cpu=device.type == "cpu", device_placement=False)
        self.selection, self.per_step, self.device, self.max_tokens = selection, per_step, device, max_tokens
        self.clock = clock
        self.framing = framing(metagene_tokenizer())
        self.model, self.layout = small_classifier(device)
        self.model.train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.order = ReadOrder(selection, sampling="natural", shuffle="all", buffer=2**22, seed=0)
        self.epoch, self.done, self.current = 0, 0, self.order.epoch(0)
        self.real = self.computed = self.reads = 0
        self.seconds = self.data_seconds = 0.0

    def run(self) -> int:
        started = self.clock()
        if self.done >= len(self.current):
            self.epoch, self.done = self.epoch + 1, 0
            self.current = self.order.epoch(self.epoch)
        reads, store = self.current.at(self.done, self.done + self.per_step), self.selection.store
        objective = Objective(None, 0.0)
        divisor = objective.weight_of(store.classes_of(reads))
        places = np.arange(self.done, self.done + len(reads))
        keys = read_keys(places, seed=0, epoch=self.epoch)
        mine = fair_shares(self.framing.segment_tokens(store.lengths_of(reads)), 1)[0]
        step = step_segments(store, reads[mine], keys[mine], self.framing)
        parts = micro_batches_of(step, self.framing, max_tokens=self.max_tokens, layout=self.layout)
        got = self.clock()
        backward_micro_batches(
            self.model, parts, objective, divisor=divisor, device=self.device, accelerator=self.accelerator
        )
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.done += len(reads)
        self.reads += len(reads)
        self.real += sum(len(segment) for segment in step.segments)
        self.computed += sum(batch.tokens for batch, _ in parts)
        self.data_seconds += got - started
        self.seconds += self.clock() - started
        return len(reads)


class _Rows:
    """The rivals' model and optimizer: rows under an attention mask."""

    def __init__(self, selection: Selection, device: torch.device) -> None:
        self.store, self.device = selection.store, device
        self.framing = framing(metagene_tokenizer())
        self.model = PaddedClassifier(small_llama(device)).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.real = self.computed = self.reads = 0

    def segments(self, reads: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        return [self.framing.frame(tokens) for tokens in self.store.tokens_of(reads)]

    def learn(self, segments: list[Any], classes: npt.NDArray[np.int32], parts: list[Any], width: int | None) -> None:
        for members in parts:
            chosen = [segments[index] for index in members]
            ids, mask = padded_rows(chosen, width or max(map(len, chosen)))
            wanted = torch.from_numpy(classes[members].astype(np.int64)).to(self.device)
            scores = self.model(ids.to(self.device), mask.to(self.device))
            (functional.cross_entropy(scores, wanted, reduction="sum") / len(segments)).backward()
            self.computed += ids.numel()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.real += sum(map(len, segments))
        self.reads += len(segments)


class _Padded(_Rows):
    """The earlier behaviour: every row has 512 tokens."""

    def run(self) -> int:
        reads = np.random.default_rng(self.computed).choice(len(self.store), PADDED_READS, replace=False)
        segments = self.segments(reads)
        self.learn(segments, self.store.classes_of(reads), [np.arange(len(reads))], PADDED_TOKENS)
        return len(reads)


class _Grouped(_Rows):
    """Dynamic padding with grouping by length, in micro-batches of the same budget as this project's."""

    def __init__(self, selection: Selection, per_step: int, device: torch.device, max_tokens: int) -> None:
        super().__init__(selection, device)
        self.per_step, self.max_tokens = per_step, max_tokens
        self.steps = self._grouped()

    def run(self) -> int:
        reads = next(self.steps)
        segments = self.segments(reads)
        rows = max(1, self.max_tokens // max(map(len, segments)))
        parts = [np.arange(first, min(first + rows, len(reads))) for first in range(0, len(reads), rows)]
        self.learn(segments, self.store.classes_of(reads), parts, None)
        return len(reads)

    def _grouped(self) -> Iterator[npt.NDArray[np.int64]]:
        random = np.random.default_rng(1)
        while True:
            order = random.permutation(len(self.store))
            for first in range(0, len(order), MEGA_BATCH_STEPS * self.per_step):
                mega = order[first : first + MEGA_BATCH_STEPS * self.per_step]
                mega = mega[np.argsort(-self.framing.segment_tokens(self.store.lengths_of(mega)), kind="stable")]
                steps = np.split(mega, range(self.per_step, len(mega), self.per_step))
                # From one length to the next at random, so that the run does not go from long reads to short ones.
                yield from (steps[place] for place in random.permutation(len(steps)))


def balances(selection: Selection) -> dict[str, dict[str, float]]:
    """The largest share of a step's tokens over the mean share, 32 reads a rank, on average over steps."""
    random, lengths = np.random.default_rng(5), selection.store.columns(0, len(selection.store)).lengths
    found = {}
    for context in (512, 2048):
        for ranks in (2, 8):
            by_reads, by_tokens = [], []
            for _ in range(200):
                tokens = np.minimum(random.choice(lengths, 32 * ranks), context)
                mean = tokens.sum() / ranks
                by_reads.append(max(tokens[rank::ranks].sum() for rank in range(ranks)) / mean)
                by_tokens.append(max(tokens[share].sum() for share in fair_shares(tokens, ranks)) / mean)
            name = f"1-8 kb, {ranks} ranks, context of {context} tokens"
            found[name] = {"by_reads": float(np.mean(by_reads)), "by_tokens": float(np.mean(by_tokens))}
    return found


if __name__ == "__main__":
    main()
