"""Memory and time of an epoch's order, over stores that are numbers alone: no file is read, nothing is tokenized.

    python benchmarks/read_order.py [--quick] [--json PATH]

For each store: the memory that choosing its reads (nine tenths, the others being held out) and making an epoch's order
takes beyond the interpreter's own, the seconds until the first read is known, and reads a second after that. The reads
of a class lie apart from one another in the store, or, where it is said to be sorted, beside one another; then the
classes in a step of 128 reads say how well blocks mix.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from metagene_classifier.store.order import EpochOrder, ReadOrder, Sampling, Shuffle
from metagene_classifier.store.scatter import GOLDEN, scatter
from metagene_classifier.store.selection import Selection

CLASSES = 3507
READS_PER_STEP = 128
STEPS = 2**16  # as many steps are taken of an epoch: two buffers' worth


@dataclass(frozen=True)
class Case:
    """A store, and how it is read."""

    reads: int
    sampling: Sampling
    shuffle: Shuffle
    sorted: bool = False


CASES = (
    Case(2**25, "natural", "all"),
    Case(2**25, "balanced", "all"),
    Case(2**25, "natural", "blocks"),
    Case(558_000_000, "natural", "blocks"),
    Case(558_000_000, "balanced", "blocks"),
    Case(2**25, "natural", "all", sorted=True),
    Case(558_000_000, "natural", "blocks", sorted=True),
)
QUICK = (
    Case(2**22, "natural", "all"),
    Case(2**22, "balanced", "all"),
    Case(2**22, "natural", "blocks"),
    Case(2**22, "balanced", "blocks"),
)


@dataclass(frozen=True)
class Columns:
    """Consecutive reads in pairs. Sorted, all classes have as many; otherwise the first have many and the last few."""

    first: int
    end: int
    reads: int
    sorted: bool

    @property
    def groups(self) -> Any:
        return scatter(np.arange(self.first, self.end, dtype=np.uint64) // np.uint64(2))

    @property
    def classes(self) -> Any:
        if self.sorted:
            return np.arange(self.first, self.end) * CLASSES // self.reads
        mixed = scatter(np.arange(self.first, self.end, dtype=np.uint64) * GOLDEN) >> np.uint64(40)
        return (mixed.astype(np.float64) ** 2 * (CLASSES / 2.0**48)).astype(np.int32)

    @property
    def lengths(self) -> Any:
        return np.full(self.end - self.first, 38)


class NumberedStore:
    """Stands in for a store of so many reads of 38 tokens."""

    def __init__(self, reads: int, sorted_by_class: bool) -> None:
        self.reads, self.sorted = reads, sorted_by_class
        self.labels = range(CLASSES)

    def __len__(self) -> int:
        return self.reads

    def columns(self, first: int, end: int) -> Columns:
        return Columns(first, min(end, self.reads), self.reads, self.sorted)

    @property
    def token_bytes(self) -> int:
        return self.reads * 38 * 2


def measured(case: Case) -> dict[str, Any]:
    """The figures of one store, in a process of its own."""
    before = _peak_bytes()
    began = time.perf_counter()
    store: Any = NumberedStore(case.reads, case.sorted)
    selection = Selection.of(store, side="kept", fraction=0.1, seed=0)
    chosen = time.perf_counter()
    epoch = ReadOrder(selection, sampling=case.sampling, shuffle=case.shuffle, buffer=2**22, seed=0).epoch(0)
    epoch.at(0, READS_PER_STEP)
    first = time.perf_counter()
    steps = min(STEPS, len(epoch) // READS_PER_STEP)
    for step in range(steps):
        epoch.at(step * READS_PER_STEP, (step + 1) * READS_PER_STEP)
    done = time.perf_counter()
    peak = _peak_bytes() - before
    return {
        **asdict(case),
        "choosing_s": chosen - began,
        "epoch_s": first - chosen,
        "reads_per_s": steps * READS_PER_STEP / (done - first),
        "peak_mib": peak / 2**20,
        "classes_in_a_step": _classes_in_a_step(store, epoch),
    }


def _classes_in_a_step(store: NumberedStore, epoch: EpochOrder) -> float:
    """On average over a thousand steps; one by one, since the columns of a read are made when they are asked for."""
    steps = epoch.at(0, 1000 * READS_PER_STEP).reshape(1000, READS_PER_STEP).tolist()
    return float(np.mean([len({int(store.columns(read, read + 1).classes[0]) for read in step}) for step in steps]))


def _peak_bytes() -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    # Not ru_maxrss: a started process inherits that of the one that started it.
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024


@click.command()
@click.option("--quick", is_flag=True, help="Stores of four million reads.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here too.")
def main(quick: bool, json_path: Path | None) -> None:
    """Memory and time of an epoch's order, by store, sampling and shuffling."""
    import torch
    from setting import machine, record

    rows = []
    print("      reads          sampling  shuffle   choosing     epoch        in order     memory  classes a step")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as processes:
        for row in processes.map(measured, QUICK if quick else CASES):
            rows.append(row)
            print(
                f"{row['reads']:11,} {'sorted' if row['sorted'] else '':6}  {row['sampling']:8}  {row['shuffle']:7}"
                f"{row['choosing_s']:8.1f} s{row['epoch_s']:8.1f} s{row['reads_per_s'] / 1e6:8.1f} M reads/s"
                f"{row['peak_mib']:7,.0f} MiB{row['classes_in_a_step']:10.1f}",
                flush=True,
            )
    record({"rows": rows, **machine(torch.device("cpu"))}, json_path)


if __name__ == "__main__":
    main()
