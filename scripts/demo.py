"""The whole road on a laptop: reads cut from real genomes, a small encoder trained on them, real reads called.

    make demo                                # or: .venv/bin/python scripts/demo.py

Everything is written into demo_output/, which is emptied first. Each step is a command that a user could type; it is
shown before it runs, and the demo ends at the first that fails, with its exit code.
"""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# Commands run in ROOT, so that the paths that they show are short.
OUTPUT = Path("demo_output")
READS = OUTPUT / "reads" / "bacteria"
RUN = OUTPUT / "run"
EVALUATION = OUTPUT / "evaluation"
SHEET = OUTPUT / "samples.csv"
SAMPLES = OUTPUT / "samples"
BASELINE = OUTPUT / "kmer_baseline.json"

READS_PER_CLASS = 7000
READ_LENGTH_BP = 150
ERROR_RATE = 0.005
SPLIT = "0.8/0.1/0.1"

# Rows of the sample sheet, its paths as seen from there: an unnamed isolate; pairs of K-12, all from a region of 1 kb.
REAL_READS = [
    ("S_aureus", "../data/reads/saureus_illumina_R1_first4k.fastq.gz", ""),
    (
        "E_coli",
        "../data/reads/ecoli_illumina_spades1k_R1.fastq.gz",
        "../data/reads/ecoli_illumina_spades1k_R2.fastq.gz",
    ),
]
CALLS_SHOWN = 4


def main() -> None:
    """Run the steps one after another."""
    started = time.monotonic()
    shutil.rmtree(ROOT / OUTPUT, ignore_errors=True)

    headline(1, "Labelled reads from ten bacterial genomes; training and test reads from disjoint regions")
    run(
        f"mgc cut-reads --genomes data/genomes --mapping-tsv data/genomes/mapping.tsv --output-prefix {READS} "
        f"--reads-per-class {READS_PER_CLASS} --length {READ_LENGTH_BP} --error-rate {ERROR_RATE} --split {SPLIT}"
    )

    headline(2, "A small Llama-architecture encoder with METAGENE-1's tokenizer, trained from nothing")
    run(
        f"mgc train --config configs/quick_cpu.yaml --train-fasta {READS}.train.fa --val-fasta {READS}.val.fa "
        f"--test-fasta {READS}.test.fa --mapping-tsv {READS}.mapping.tsv --output-dir {RUN} --taxonomy data/taxonomy"
    )

    headline(3, "Its figures on the test reads, whose regions training never saw")
    run(f"mgc evaluate --ckpt {RUN} --split test --output-dir {EVALUATION}")

    headline(4, "Its calls for real sequencing reads: one sample of single reads, one of pairs")
    rows = [f"{name},{','.join(files)}" for name, *files in REAL_READS]
    (ROOT / SHEET).write_text("\n".join(["sample,R1,R2", *rows, ""]), encoding="utf-8")
    run(
        f"mgc predict --sample-sheet {SHEET} --ckpt {RUN} --output-dir {SAMPLES} --report {SAMPLES}/report.html "
        "--write csv --write kraken-report --write profile --write krona-html"
    )
    for name, *_ in REAL_READS:
        print_calls(name, ROOT / SAMPLES / f"{name}.csv")

    headline(5, "A baseline on the same reads: logistic regression on 4-mer frequencies")
    run(
        f"python benchmarks/kmer_baseline.py --train {READS}.train.fa --test {READS}.test.fa "
        f"--mapping-tsv {READS}.mapping.tsv --json {BASELINE}"
    )

    headline(6, "What there is now")
    model, baseline = figures(EVALUATION / "metrics.json"), figures(BASELINE)
    print(f"model        {RUN}/best")
    print(f"reports      {RUN}/validation/report.html (training), {EVALUATION}/report.html (test reads),")
    print(f"             {SAMPLES}/report.html (the samples)")
    print(f"predictions  {SAMPLES}/*.csv, and Kraken's report, a profile and a sunburst of each sample beside them")
    print(f"total time   {time.monotonic() - started:.0f} s")
    print(f"\nmacro-F1 on the same {model['reads']:,} test reads")
    print(f"  this model      {model['macro_f1']:.4f}")
    print(f"  4-mer baseline  {baseline['macro_f1']:.4f}")


def headline(number: int, text: str) -> None:
    """Announce a step."""
    print(f"\n=== {number}. {text}", flush=True)


def run(command: str) -> None:
    """Show a command and run it with this Python; end with its exit code if it fails."""
    print(f"$ {command}", flush=True)
    program, *arguments = shlex.split(command)
    start = [sys.executable, "-m", "metagene_classifier"] if program == "mgc" else [sys.executable]
    code = subprocess.run([*start, *arguments], cwd=ROOT).returncode
    if code:
        print(f"the demo ends here: this command failed (exit code {code})", file=sys.stderr)
        sys.exit(code)


def print_calls(name: str, table: Path) -> None:
    """How the calls of a file fall, the most frequent first."""
    with open(table, encoding="utf-8", newline="") as handle:
        counts = Counter(row["call"] for row in csv.DictReader(handle))
    shares = counts.most_common(CALLS_SHOWN)
    if rest := counts.total() - sum(count for _, count in shares):
        shares.append(("all others", rest))
    print(f"{name}: {counts.total():,} calls")
    for label, count in shares:
        print(f"  {count / counts.total():>6.1%}  {label}")


def figures(path: Path) -> dict[str, Any]:
    """The figures in a JSON file that a step wrote."""
    found: dict[str, Any] = json.loads((ROOT / path).read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
