"""Peak memory of prediction over a short and a ten times longer file: it must not grow with the reads.

    python benchmarks/predict_memory.py [--quick] [--json PATH]

A small model is trained for one step, then `mgc predict` runs over 100,000 and 1,000,000 reads of 24 bp.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from setting import machine, reads_of_genome, record


@click.command()
@click.option("--quick", is_flag=True, help="5,000 and 50,000 reads instead: under a minute on two cores.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here too.")
def main(quick: bool, json_path: Path | None) -> None:
    """Peak memory of mgc predict over reads in number and ten times as many."""
    reads = 5_000 if quick else 100_000
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = train_one_step(folder)
        for size, count in (("short", reads), ("long", 10 * reads)):
            fasta = write_reads(folder / f"{size}.fa", count)
            peak_mib, seconds = predict(model, fasta, folder / f"{size}.csv")
            figures |= {f"{size}_reads": count, f"{size}_peak_mib": peak_mib, f"{size}_seconds": seconds}
            print(f"{count:>10,} reads  {peak_mib:>8.1f} MiB  {seconds:>7.1f} s")
    figures["growth"] = figures["long_peak_mib"] / figures["short_peak_mib"]
    print(f"{'growth':>16}  {figures['growth']:>8.3f} times")
    record(figures | machine(torch.device("cpu")), json_path)


def train_one_step(folder: Path) -> Path:
    """A saved model with two classes."""
    (folder / "mapping.tsv").write_text("class_id\tlabel_name\n0\tone\n1\tother\n")
    reads = reads_of_genome(32)
    (folder / "train.fa").write_text("".join(f">lbl|{n % 2}|0|150|r{n}\n{read}\n" for n, read in enumerate(reads)))
    run = folder / "run"
    options = ["--train-fasta", folder / "train.fa", "--mapping-tsv", folder / "mapping.tsv", "--output-dir", run]
    settings = ["model.encoder_path=builtin:llama-tiny", "model.init=random", "training.max_steps=1"]
    settings += ["dataset.val_fraction=0", "logging.tensorboard=false"]
    mgc("train", *options, "--device", "cpu", *(word for one in settings for word in ("--set", one)))
    return run


def write_reads(path: Path, count: int) -> Path:
    """Reads of 24 bp from random places of one made-up sequence."""
    random = np.random.default_rng(0)
    sequence = "".join(random.choice(list("ACGT"), 200_000))
    with open(path, "w", encoding="ascii") as out:
        for number, start in enumerate(random.integers(0, len(sequence) - 24, count)):
            out.write(f">read{number}\n{sequence[start : start + 24]}\n")
    return path


def predict(model: Path, fasta: Path, output: Path) -> tuple[float, float]:
    """Peak memory (MiB) and seconds of one `mgc predict`."""
    measured = (
        "import resource, sys; from metagene_classifier.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    started = time.perf_counter()
    words = ["predict", "--input", fasta, "--ckpt", model, "--output", output, "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", measured, *map(str, words)], capture_output=True, text=True, check=True
    )
    found = re.search(r"peak (\d+)", done.stdout)
    assert found is not None
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    return int(found.group(1)) / unit, time.perf_counter() - started


def mgc(*words: object) -> None:
    """Run a command as a user would."""
    command = [sys.executable, "-m", "metagene_classifier", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main()
