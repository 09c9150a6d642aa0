"""A baseline that any classifier of reads should be shown beside: logistic regression on 4-mer frequencies.

    python benchmarks/kmer_baseline.py                     # cuts reads from the genomes in data/genomes
    python benchmarks/kmer_baseline.py --train a.fa --test b.fa --mapping-tsv m.tsv

A k-mer and its reverse complement are counted as one, since reads come from both strands: of the variants tried on ten
bacteria (one strand or both, frequencies or their square roots) this one had the highest macro F1.
"""

from __future__ import annotations

import json
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from metagene_classifier.config import DEFAULT_HEADER_REGEX
from metagene_classifier.console import progress, say
from metagene_classifier.errors import DataError, MgcError
from metagene_classifier.metrics.classification import METRIC_NAMES, ClassificationMetrics, classification_metrics
from metagene_classifier.reads.cleaning import clean_sequence
from metagene_classifier.reads.headers import HeaderPattern
from metagene_classifier.reads.labelled import LabellingReport, LabelSource, labelled_reads
from metagene_classifier.reads.labels import Labels, read_mapping
from metagene_classifier.whole_files import whole_file

GENOMES = Path(__file__).resolve().parent.parent / "data" / "genomes"

_BATCH_READS = 4096
_REGULARISATION = 0.1
_CODES = np.full(256, 4, dtype=np.uint8)
_CODES[np.frombuffer(b"ACGT", dtype=np.uint8)] = np.arange(4)


def kmer_frequencies(reads: Sequence[str], k: int = 4) -> np.ndarray[Any, Any]:
    """Share of each k-mer among those of a read, both strands as one: float32, (reads, k-mers); 136 of them for k = 4.

    K-mers with a letter other than A, C, G and T are left out; a read without any gets zeros.
    """
    column_of = _canonical_columns(k)
    columns = int(column_of.max()) + 1
    batches = [np.zeros((0, columns), dtype=np.float32)]
    for first in range(0, len(reads), _BATCH_READS):
        batch = reads[first : first + _BATCH_READS]
        # Joined by N, so that no k-mer reaches into the next read.
        bases = _CODES[np.frombuffer(("N".join(batch) + "N" * k).encode(), dtype=np.uint8)]
        places = len(bases) - k + 1
        code = np.zeros(places, dtype=np.int64)
        whole = np.ones(places, dtype=bool)
        for offset in range(k):
            here = bases[offset : offset + places]
            code = code * 4 + np.minimum(here, 3)
            whole &= here < 4
        owner = np.repeat(np.arange(len(batch)), [len(read) + 1 for read in batch])
        cell = owner[whole] * columns + column_of[code[whole]]
        counts = np.bincount(cell, minlength=len(batch) * columns).reshape(-1, columns)
        batches.append((counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).astype(np.float32))
    return np.concatenate(batches)


def _canonical_columns(k: int) -> np.ndarray[Any, Any]:
    """For each of the 4^k k-mers its column: the same as its reverse complement's."""
    forward = np.arange(4**k)
    reverse, rest = np.zeros_like(forward), forward
    for _ in range(k):
        reverse, rest = reverse * 4 + 3 - rest % 4, rest // 4
    return np.unique(np.minimum(forward, reverse), return_inverse=True)[1]


def kmer_baseline(
    train_reads: Sequence[str],
    train_truth: np.ndarray[Any, Any],
    test_reads: Sequence[str],
    test_truth: np.ndarray[Any, Any],
    labels: Sequence[str],
    k: int = 4,
    seed: int = 42,
) -> ClassificationMetrics:
    """Train on the one set of reads and score the other.

    Args:
        train_reads: cleaned sequences.
        train_truth: class indices, (training reads,).
        test_reads: cleaned sequences.
        test_truth: class indices, (test reads,).
        labels: of all classes, whether or not a read of them is present.
        k: bases of a k-mer.
        seed: of the order in which the reads are taken.

    Raises:
        DataError: the training reads are all of one class, or there are no test reads.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(train_truth)) < 2:
        raise DataError("the baseline needs training reads of at least two classes")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=_REGULARISATION, max_iter=1000, random_state=seed))
    model.fit(kmer_frequencies(train_reads, k), train_truth)
    probabilities = np.zeros((len(test_reads), len(labels)), dtype=np.float32)
    if len(test_reads):
        # Classes that training never saw keep probability 0.
        probabilities[:, model.classes_] = model.predict_proba(kmer_frequencies(test_reads, k))
    return classification_metrics(np.asarray(test_truth), probabilities, labels)


def read_labelled(path: Path, labels: Labels, most: int | None, seed: int) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Cleaned sequences and classes of a file's reads; where there are more than ``most``, a random choice of them."""
    source = LabelSource(pattern=HeaderPattern(DEFAULT_HEADER_REGEX))
    reads: list[str] = []
    truth: list[int] = []
    draw = random.Random(seed)
    stream = labelled_reads([path], labels, source, True, LabellingReport())
    for number, labelled in enumerate(progress(stream, unit="read", label=path.name)):
        sequence = clean_sequence(labelled.read.sequence)
        if most is None or number < most:
            reads.append(sequence)
            truth.append(labelled.class_index)
        elif (place := draw.randrange(number + 1)) < most:
            reads[place], truth[place] = sequence, labelled.class_index
    return reads, np.array(truth, dtype=np.int64)


def _cut_from_genomes(folder: Path, reads_per_class: int, seed: int) -> tuple[Path, Path, Path]:
    """Training reads, test reads and mapping, cut from the project's own genomes."""
    prefix = folder / "reads"
    command = [sys.executable, "-m", "metagene_classifier", "cut-reads", "--genomes", str(GENOMES)]
    command += ["--mapping-tsv", str(GENOMES / "mapping.tsv"), "--output-prefix", str(prefix), "--seed", str(seed)]
    command += ["--reads-per-class", str(reads_per_class), "--length", "150", "--split", "0.8/0/0.2"]
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        raise DataError(f"no reads could be cut from {GENOMES}: give --train, --test and --mapping-tsv")
    return Path(f"{prefix}.train.fa"), Path(f"{prefix}.test.fa"), Path(f"{prefix}.mapping.tsv")


def _print(metrics: ClassificationMetrics, seconds: float, train_reads: int) -> None:
    print(f"training reads  {train_reads:>10,}")
    print(f"test reads      {metrics.reads:>10,}")
    print(f"classes         {metrics.classes:>10,}")
    for key, name in METRIC_NAMES.items():
        value = getattr(metrics, key)
        print(f"{name:<16}{'-' if value is None else format(value, '.4f'):>10}")
    print(f"{'Seconds':<16}{seconds:>10.1f}")


@click.command(context_settings={"token_normalize_func": lambda token: token.replace("_", "-")})
@click.option("--train", type=click.Path(path_type=Path), help="Labelled training reads, FASTA or FASTQ.")
@click.option("--test", type=click.Path(path_type=Path), help="Labelled test reads.")
@click.option("--mapping-tsv", type=click.Path(path_type=Path), help="The classes.")
@click.option(
    "--max-train-reads", type=click.IntRange(1), default=200_000, show_default=True, help="A random choice of them."
)
@click.option("--k", type=click.IntRange(1, 7), default=4, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=42, show_default=True)
@click.option("--quick", is_flag=True, help="1,000 reads of each genome instead of 5,000; without --train only.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here too.")
def command(
    train: Path | None,
    test: Path | None,
    mapping_tsv: Path | None,
    max_train_reads: int,
    k: int,
    seed: int,
    quick: bool,
    json_path: Path | None,
) -> None:
    """Macro F1 of logistic regression on k-mer frequencies; reads are cut from data/genomes where none are given."""
    given = [train, test, mapping_tsv]
    if any(given) and not all(given):
        raise click.UsageError("--train, --test and --mapping-tsv go together")
    with tempfile.TemporaryDirectory() as folder:
        if train is None or test is None or mapping_tsv is None:
            train, test, mapping_tsv = _cut_from_genomes(Path(folder), 1000 if quick else 5000, seed)
        labels = read_mapping(mapping_tsv)
        train_reads, train_truth = read_labelled(train, labels, max_train_reads, seed)
        test_reads, test_truth = read_labelled(test, labels, None, seed)
    say(f"fitting {len(train_reads):,} reads")
    start = time.perf_counter()
    metrics = kmer_baseline(train_reads, train_truth, test_reads, test_truth, labels.names, k, seed)
    seconds = time.perf_counter() - start
    _print(metrics, seconds, len(train_reads))
    if json_path is not None:
        import sklearn

        result = {
            "baseline": f"logistic regression on {k}-mer frequencies, both strands as one",
            "train_reads": len(train_reads),
            "seconds": round(seconds, 2),
            **metrics.as_dict(),
            "machine": f"{platform.machine()}, {platform.system()}",
            "versions": {"python": platform.python_version(), "scikit-learn": sklearn.__version__},
        }
        with whole_file(json_path) as handle:
            json.dump(result, handle, indent=2)
            handle.write("\n")


if __name__ == "__main__":
    try:
        command()
    except MgcError as error:
        print(f"kmer_baseline: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
