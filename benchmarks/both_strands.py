"""What learning from both strands brings and costs: the small encoder of configs/quick_cpu.yaml on ten genomes.

    python benchmarks/both_strands.py [--run HOW:EPOCHS ...] [--seed N ...] [--quick] [--json PATH]

Reads of 150 bp with 0.5% errors are cut from the genomes in data/genomes, as `mgc cut-reads` cuts them: either strand
of every place, training and test reads from disjoint regions. Each run trains on the same reads with one
`training.reverse_complement`, to its last epoch; `consistency` computes twice as much in an epoch as the others. Of the
test reads both strands are scored: how many are called right on one strand (either, on average) and on the average of
both, and how many are called differently on their two strands. Then milliseconds to get the reads of a step.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from setting import framing, machine, metagene_tokenizer, reads_of_genome, record, store_of_reads

from metagene_classifier.model.out_of_memory import TokenBudget
from metagene_classifier.model.saved import load_model
from metagene_classifier.model.scoring import probabilities_of, score_reads
from metagene_classifier.reads.files import read_records
from metagene_classifier.reads.strand import reverse_complement
from metagene_classifier.training.steps import read_keys, step_segments
from metagene_classifier.training.strands import both_strands_of

ROOT = Path(__file__).resolve().parent.parent
GENOMES = ROOT / "data" / "genomes"
RUNS = ("none:4", "augment:4", "consistency:4", "none:8")
READS_PER_CLASS = 1500  # six tenths of them to train on, three to test with
READS_PER_STEP = 64
ROUNDS = 30


@click.command()
@click.option("--run", "runs", multiple=True, default=RUNS, show_default=True, help="HOW:EPOCHS; may be repeated.")
@click.option("--seed", "seeds", type=int, multiple=True, default=(1,), show_default=True, help="May be repeated.")
@click.option("--quick", is_flag=True, help="Few reads and one epoch each: under a minute on two cores.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here too.")
def main(runs: tuple[str, ...], seeds: tuple[int, ...], quick: bool, json_path: Path | None) -> None:
    """Accuracy on either strand and on both, and calls that differ between them, for each way to learn."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cut_reads(folder, 60 if quick else READS_PER_CLASS)
        print(f"{'':<16}{'epochs':>7}{'seed':>6}{'one strand':>12}{'both':>8}{'differ':>8}{'loss':>8}{'seconds':>9}")
        for seed in seeds:
            for run in ("none:1", "augment:1", "consistency:1") if quick else runs:
                how, epochs = run.split(":")
                seconds = train(folder, how, int(epochs), seed)
                row = {"how": how, "epochs": int(epochs), "seed": seed, **figures_of(folder), "seconds": seconds}
                rows.append(row)
                shares = f"{row['one_strand']:>12.1%}{row['both']:>8.1%}{row['differ']:>8.1%}"
                print(f"{how:<16}{epochs:>7}{seed:>6}{shares}{row['loss']:>8.3f}{seconds:>9.0f}", flush=True)
    step = {how: round(step_ms(how), 3) for how in ("none", "augment", "consistency")}
    print(
        f"\nto get the {READS_PER_STEP} reads of a step: " + ", ".join(f"{how} {ms:.2f} ms" for how, ms in step.items())
    )
    record({"runs": rows, "step_ms": step, **machine(torch.device("cpu"))}, json_path)


def cut_reads(folder: Path, reads_per_class: int) -> None:
    """Training, validation and test reads of ten genomes."""
    words = ["--genomes", GENOMES, "--mapping-tsv", GENOMES / "mapping.tsv", "--output-prefix", folder / "reads"]
    words += ["--reads-per-class", reads_per_class, "--error-rate", 0.005, "--split", "0.6/0.1/0.3"]
    mgc("cut-reads", *words)


def train(folder: Path, how: str, epochs: int, seed: int) -> float:
    """Seconds of a run, whose last model is left in the folder."""
    reads = {name: folder / f"reads.{name}" for name in ("train.fa", "val.fa", "mapping.tsv")}
    settings = {
        "training.reverse_complement": how,
        "training.max_epochs": epochs,
        "training.early_stopping.enabled": "false",
        "calling.calibrate": "false",
        "seed": seed,
    }
    words = ["--config", ROOT / "configs" / "quick_cpu.yaml", "--output-dir", folder / "run", "--overwrite"]
    words += ["--train-fasta", reads["train.fa"], "--val-fasta", reads["val.fa"]]
    words += ["--mapping-tsv", reads["mapping.tsv"]]
    started = time.monotonic()
    mgc("train", *words, *(word for key, value in settings.items() for word in ("--set", f"{key}={value}")))
    return time.monotonic() - started


def figures_of(folder: Path) -> dict[str, float]:
    """Shares of the test reads that are called right and that differ, and the mean cross entropy of one strand."""
    reads = list(read_records(folder / "reads.test.fa"))
    truth = np.array([int(read.header.split("|")[1]) for read in reads])
    model = load_model(folder / "run" / "last", device="cpu", tell=lambda line: None)

    def scored(turn: Callable[[str], str]) -> npt.NDArray[np.float64]:
        tokens = model.tokenizer.encode_batch([turn(read.sequence) for read in reads])
        scores = score_reads(
            model.classifier,
            tokens,
            framing(model.tokenizer),
            width=len(model.description.labels),
            budget=TokenBudget(4096),
            layout="buckets",
            device=torch.device("cpu"),
        )
        return np.log(np.maximum(probabilities_of(scores), 1e-30).astype(np.float64))

    strands = [scored(str), scored(reverse_complement)]
    calls = [strand.argmax(axis=1) for strand in strands]
    return {
        "one_strand": float(np.mean([called == truth for called in calls])),
        "both": float((sum(strands).argmax(axis=1) == truth).mean()),
        "differ": float((calls[0] != calls[1]).mean()),
        "loss": -float(np.mean([strand[np.arange(len(truth)), truth] for strand in strands])),
    }


def step_ms(how: Any) -> float:
    """Milliseconds to get a step's segments, the median over rounds."""
    tokenizer = metagene_tokenizer()
    seconds = []
    with tempfile.TemporaryDirectory() as name:
        sequences = reads_of_genome(12_000)  # enough for the tokenizer's table to be made
        store = store_of_reads(Path(name), sequences, np.zeros(len(sequences), np.int32))
        tokenizer.encode_batch(sequences)
        strands = both_strands_of(how, tokenizer)
        for number in range(ROUNDS):
            reads = np.random.default_rng(number).integers(0, len(store), READS_PER_STEP)
            started = time.perf_counter()
            step_segments(store, reads, read_keys(reads, seed=0, epoch=number), framing(tokenizer), strands)
            seconds.append(time.perf_counter() - started)
    return 1000 * float(np.median(seconds))


def mgc(*words: object) -> None:
    """Run a command of this project, quietly; end with what it says if it fails."""
    command = [sys.executable, "-m", "metagene_classifier", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command[1:])}\n{done.stderr}")


if __name__ == "__main__":
    main()
