"""What a profile of many classes takes, and how near it comes to the truth.

    python benchmarks/abundances.py [--quick] [--json PATH]

Samples of made-up composition over classes that are confused as classes of one genus are: of a class's reads 65 to 95%
are called right, most of the rest a sister of its genus, some anything, some nothing. The confusions are known from few
validation reads of each class only, as in training. Distances are the sum of absolute differences of the shares (L1: 0
for the same, 2 for nothing in common), of the counted calls and of the estimated abundances; intervals are told by the
share of the sample's classes whose true share they hold. Seconds are of CPU time; with OMP_NUM_THREADS=1 they are those
of one thread.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.confusion import Confusion
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.prediction.profile.estimate import estimate_profile
from metagene_classifier.prediction.profile.tally import SampleTally
from metagene_classifier.reads.labels import ClassLabel, Labels
from metagene_classifier.reads.taxonomy import TaxonNode, Taxonomy

SISTERS = 4
# Classes, validation reads a class, reads of the sample.
CASES = (
    (10, 2000, 10**6),
    (500, 40, 10**6),
    (3507, 6, 10**4),
    (3507, 6, 10**6),
    (3507, 6, 558 * 10**6),
    (3507, 100, 10**6),
)
QUICK = ((10, 2000, 10**4), (3507, 6, 10**4))
DRAWN_AT_ONCE = 2 * 10**6


def called(truth: npt.NDArray[np.int64], right: npt.NDArray[np.float64], rng: np.random.Generator) -> Any:
    """What reads of these classes are called; the number of classes for nothing. ``(reads,)``."""
    classes = len(right)
    fate = rng.random(len(truth))
    left = (1 - right[truth]) / 10
    sister = np.minimum(truth - truth % SISTERS + rng.integers(0, SISTERS, len(truth)), classes - 1)
    found = np.where(fate < 1 - 4 * left, truth, sister)
    found = np.where(fate > 1 - 4 * left, rng.integers(0, classes, len(truth)), found)
    wrong = (fate >= right[truth]) & (fate < 1 - 4 * left)
    found = np.where(wrong, sister, found)
    return np.where(fate > 1 - 3 * left, classes, found)


def tree_of(classes: int) -> ClassTree:
    """Species in genera."""
    nodes = {1: TaxonNode(1, 1, "no rank", "root")}
    for one in range(classes):
        genus = 10**6 + one // SISTERS
        nodes[genus] = TaxonNode(genus, 1, "genus", f"genus {genus}")
        nodes[2 + one] = TaxonNode(2 + one, genus, "species", f"species {one}")
    labels = Labels(tuple(ClassLabel(str(one), f"species {one}", 2 + one) for one in range(classes)))
    return ClassTree.of(labels, Taxonomy(nodes))


def measured(classes: int, validation_reads: int, reads: int, bootstraps: int) -> dict[str, Any]:
    """One sample's profile."""
    rng = np.random.default_rng(0)
    right = rng.uniform(0.65, 0.95, classes)
    truth = np.repeat(np.arange(classes), validation_reads)
    confusion = Confusion.of(truth, called(truth, right, rng), classes)
    there = rng.choice(classes, min(classes, 5 if classes <= 10 else 200), replace=False)
    shares = np.zeros(classes)
    shares[there] = rng.lognormal(0, 2, len(there))
    shares /= shares.sum()
    drawn = min(reads, DRAWN_AT_ONCE)
    calls = called(rng.choice(classes, drawn, p=shares), right, rng)
    counts = np.bincount(calls, minlength=classes + 1) * (reads // drawn)
    tree = tree_of(classes)
    tally = SampleTally(tree)
    tally.observed[:] = counts
    tally.direct[tree.taxon_of_class], tally.direct[0] = counts[:-1], counts[-1]
    tally.reads = int(counts.sum())
    estimate_profile("", tally, tree, confusion, bootstraps=0)  # what is imported takes its time once
    began = time.process_time()
    estimate_profile("", tally, tree, confusion, bootstraps=0)
    once = time.process_time() - began
    began = time.process_time()
    profile = estimate_profile("", tally, tree, confusion, bootstraps=bootstraps)
    rows = {int(row.name.split()[1]): row for row in profile.rows if row.rank == "species"}
    estimated = np.array([rows[one].abundance if one in rows else 0.0 for one in range(classes)])
    held = [
        one in rows and (rows[one].low or 0) <= shares[one] <= (rows[one].high or 0)
        for one in there.tolist()
        if shares[one] * reads >= 10
    ]
    return {
        "classes": classes,
        "validation_reads_a_class": validation_reads,
        "reads": tally.reads,
        "seconds": once,
        "seconds_with_intervals": time.process_time() - began,
        "bootstraps": bootstraps,
        "l1_counts": float(np.abs(counts[:-1] / counts[:-1].sum() - shares).sum()),
        "l1_estimate": float(np.abs(estimated - shares).sum()),
        "classes_there": len(there),
        "classes_counted": int((counts[:-1] > 0).sum()),
        "classes_estimated": profile.richness,
        "intervals_that_hold": sum(held) / len(held),
    }


@click.command()
@click.option("--quick", is_flag=True, help="Fewer cases and ten bootstraps.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(quick: bool, json_path: Path | None) -> None:
    """Measure profiles."""
    import torch
    from setting import machine, record

    rows = []
    print(
        "classes  validation reads  sample reads  s without / with intervals  L1 counted  L1 estimated  intervals hold"
    )
    for case in QUICK if quick else CASES:
        row = measured(*case, bootstraps=10 if quick else 100)
        rows.append(row)
        print(
            f"{row['classes']:7,}  {row['validation_reads_a_class']:16,}  {row['reads']:12,}  "
            f"{row['seconds']:9.2f} / {row['seconds_with_intervals']:14.1f}  {row['l1_counts']:10.3f}  "
            f"{row['l1_estimate']:12.3f}  {row['intervals_that_hold']:14.0%}"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"peak memory {peak:.0f} MiB")
    record({"machine": machine(torch.device("cpu")), "peak_mib": peak, "profiles": rows}, json_path)


if __name__ == "__main__":
    main()
