"""What refusing reads costs, and what it refuses that it should not.

    python benchmarks/refusal.py [--quick] [--json PATH]

Screening: of reads from random places of the genomes and viruses that the project ships, the share that lies below the
default of ``calling.min_complexity``, and reads a second. Leaving taxa out: seconds and peak memory of ten folds and of
choosing threshold and cut-off, on embeddings made up as clouds about a mean for each class. Seconds are of CPU time, so
that a busy machine does not show; with OMP_NUM_THREADS=1 they are those of one thread.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from metagene_classifier.calling.novelty import energies, strangeness
from metagene_classifier.calling.open_set import Embedded, leave_taxa_out
from metagene_classifier.calling.refusal import choose
from metagene_classifier.calling.screening import complexities
from metagene_classifier.calling.spaces import Axes, centroids_of
from metagene_classifier.calling.temperature import fit_temperatures, temperatures_of
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.config import CallingConfig
from metagene_classifier.model.calibration import NoveltyScore
from metagene_classifier.model.scoring import probabilities_of
from metagene_classifier.reads.cleaning import clean_sequence
from metagene_classifier.reads.files import read_records
from metagene_classifier.reads.labels import ClassLabel, Labels

DATA = Path(__file__).resolve().parent.parent / "data"
SOURCES = {"bacteria": DATA / "genomes", "viruses": DATA / "viruses"}
LENGTHS_BP = (50, 75, 150, 300, 2000)
REPEATS = ("A", "AC", "CAG", "GATA", "TTAGGG", "TTTAGGG")
# Classes, width of an embedding, training and validation reads each.
CASES = ((10, 4096, 4096), (500, 4096, 4096), (3507, 4096, 4096))
QUICK = ((10, 256, 1000), (300, 256, 1000))


def reads_of(folder: Path, length: int, count: int) -> list[str]:
    """As many reads of each file, from random places; records shorter than a read are left out."""
    generator = np.random.default_rng(length)
    reads = []
    for path in sorted(folder.glob("*.fna.gz")):
        records = [one for record in read_records(path) if len(one := clean_sequence(record.sequence)) > length]
        sizes = np.array([len(one) - length for one in records], np.float64)
        for number in generator.choice(len(records), count, p=sizes / sizes.sum()).tolist():
            start = int(generator.integers(len(records[number]) - length + 1))
            reads.append(records[number][start : start + length])
    return reads


def screened(source: str, length: int, count: int, least: float) -> dict[str, Any]:
    """The share of reads below the default, and the time that it takes."""
    reads = reads_of(SOURCES[source], length, count)
    began = time.process_time()
    values = complexities(reads)
    seconds = time.process_time() - began
    return {
        "source": source,
        "length_bp": length,
        "reads": len(reads),
        "refused": float((values < least).mean()),
        "lowest": float(np.nanmin(values)),
        "reads_per_s": len(reads) / seconds,
    }


def clouds(classes: int, hidden: int, reads: int, seed: int) -> Embedded:
    """Reads of all classes in turn."""
    means = np.random.default_rng(0).normal(0, 20 / np.sqrt(hidden), (classes, hidden)).astype(np.float32)
    truth = np.arange(reads) % classes
    noise = np.random.default_rng(seed).normal(size=(reads, hidden)).astype(np.float32)
    values = means[truth] + noise
    scores = values @ means.T - (means**2).sum(axis=1) / 2
    return Embedded(values, scores.astype(np.float32), truth.astype(np.int64))


def left_out(classes: int, hidden: int, reads: int) -> dict[str, Any]:
    """Seconds of what follows the encoder at the end of a run."""
    tree = ClassTree.of(Labels(tuple(ClassLabel(str(one), f"class {one}") for one in range(classes))))
    fit, scored = clouds(classes, hidden, reads, 1), clouds(classes, hidden, reads, 2)
    tokens = np.full(reads, 38)
    began = time.process_time()
    temperature = fit_temperatures(scored.scores, scored.classes, tokens, np.arange(reads).astype(np.uint64))
    probabilities = probabilities_of(scored.scores / temperatures_of(temperature, tokens)[:, None])
    fitted = time.process_time()
    folds = leave_taxa_out(fit, scored, tree, folds=10, seed=0)
    folded = time.process_time()
    centroids = centroids_of(Axes.of(fit.values, 0, to_length_1=True), fit.values, fit.classes)
    novelty: dict[NoveltyScore, Any] = {
        "probability": strangeness(probabilities),
        "energy": energies(scored.scores),
        "centroid": centroids.distances(scored.values),
    }
    choice = choose(probabilities, scored.classes, tree, folds, novelty)
    done = time.process_time()
    return {
        "classes": classes,
        "hidden": hidden,
        "reads": reads,
        "temperature_s": fitted - began,
        "folds_s": folded - fitted,
        "choosing_s": done - folded,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "threshold": choice.threshold,
    }


@click.command()
@click.option("--quick", is_flag=True, help="Fewer reads, and classes in the hundreds.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here too.")
def main(quick: bool, json_path: Path | None) -> None:
    """What refusing reads costs, and what it refuses that it should not."""
    import torch
    from setting import machine, record

    least = CallingConfig().min_complexity
    rows = []
    print(f"reads of a complexity below {least}")
    for source, count in (("bacteria", 2000 if quick else 40_000), ("viruses", 2000 if quick else 200_000)):
        for length in LENGTHS_BP:
            row = screened(source, length, count if length < 1000 else count // 10, least)
            rows.append(row)
            print(
                f"  {source:9}{length:6,} bp{row['refused']:10.4%} of {row['reads']:9,}   lowest {row['lowest']:.3f}"
                f"{row['reads_per_s']:12,.0f} reads/s",
                flush=True,
            )
    repeats = {unit: float(complexities([(unit * 150)[:150]])[0]) for unit in REPEATS}
    print("  repeats of 150 bp: " + ", ".join(f"{unit} {value:.2f}" for unit, value in repeats.items()))
    cases = []
    print("leaving taxa out: classes   hidden    reads  temperature      folds   choosing     memory")
    for classes, hidden, reads in QUICK if quick else CASES:
        case = left_out(classes, hidden, reads)
        cases.append(case)
        print(
            f"{classes:25,}{hidden:9,}{reads:9,}{case['temperature_s']:11.1f} s{case['folds_s']:9.1f} s"
            f"{case['choosing_s']:9.1f} s{case['peak_mib']:7,.0f} MiB",
            flush=True,
        )
    record({"screening": rows, "repeats": repeats, "left_out": cases, **machine(torch.device("cpu"))}, json_path)


if __name__ == "__main__":
    main()
