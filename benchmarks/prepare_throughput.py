"""From a FASTA file to token ids on disk: this project, two usual pipelines, and the disk alone.

    python benchmarks/prepare_throughput.py [--quick] [--json PATH]

Reads of 150 bp with labelled headers are cut from the genomes that the project ships. `mgc prepare` labels, cleans and
tokenizes all of them, from plain and from gzipped FASTA, with one worker and with two. The others tokenize only: one
reads with Biopython and calls the Hugging Face tokenizer once a read, as the earlier pipeline did; one reads with
Biopython into a data set of the `datasets` library and maps the fast tokenizer over it in batches, which is written to
its cache. "disk alone" reads the file and writes as many bytes as the store has. Each is a process of its own; seconds
are those of the work, without importing; memory is of the process and its children together. What is slow gets fewer
reads. Libraries that are not installed are named and left out.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil

from metagene_classifier.hub import RESOURCES
from metagene_classifier.reads.cleaning import clean_sequence
from metagene_classifier.reads.files import read_records

# torch is imported where it is needed: workers import this file again.

TOKENIZER = RESOURCES / "tokenizers" / "metagene-1"
TRAINING_SET_BASES = 84e9
READ_LENGTH_BP = 150
CHUNK_READS = 20_000
SAMPLED_S = 0.02


@click.command()
@click.option("--quick", is_flag=True, help="A tenth of the reads: under a minute on two cores.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here too.")
@click.option("--reads", type=click.IntRange(min=1), help="Of mgc prepare and the disk alone, instead of 2,000,000.")
@click.option("--side", hidden=True)
@click.argument("words", nargs=-1)
def main(quick: bool, json_path: Path | None, reads: int | None, side: str | None, words: tuple[str, ...]) -> None:
    """Bases a second from FASTA to token ids on disk."""
    if side is not None:
        SIDES[side](*words)
        return
    import torch
    from setting import machine, record

    many, some, few = (200_000, 20_000, 5_000) if quick else (2_000_000, 200_000, 20_000)
    many = reads or many
    figures: dict[str, Any] = {}
    print(f"{'':<44}{'reads':>10}{'s':>8}{'reads/s':>10}{'Mbases/s':>10}{'/core-s':>9}{'MB':>7}{'84 Gbases':>11}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {count: write_reads(folder / f"{count}.fa", count) for count in (many, some, few)}
        packed = folder / f"{many}.fa.gz"
        with open(files[many], "rb") as source, gzip.open(packed, "wb", compresslevel=6) as out:
            while piece := source.read(2**22):
                out.write(piece)
        mapping = folder / "mapping.tsv"
        for title, side, count, arguments in (
            ("mgc prepare, 1 worker, plain", "prepare", many, (files[many], mapping, folder / "1", 1)),
            ("mgc prepare, 2 workers, plain", "prepare", many, (files[many], mapping, folder / "2", 2)),
            ("mgc prepare, 1 worker, gzip", "prepare", many, (packed, mapping, folder / "3", 1)),
            ("mgc prepare, 2 workers, gzip", "prepare", many, (packed, mapping, folder / "4", 2)),
            ("disk alone: read, write as many bytes", "disk", many, (files[many], folder / "1", folder / "copy")),
            ("Biopython, a tokenizer call a read", "biopython", few, (files[few], folder / "ids")),
            ("datasets.map, fast tokenizer, 1 process", "datasets", some, (files[some], folder / "ds1", 1)),
            ("datasets.map, fast tokenizer, 2 processes", "datasets", some, (files[some], folder / "ds2", 2)),
        ):
            found = measured(side, *map(str, arguments))
            if found is None:
                print(f"{title:<44}not installed: left out")
                continue
            figures[title] = found | rates(found, count)
            row = figures[title]
            print(
                f"{title:<44}{count:>10,}{row['seconds']:>8.1f}{row['reads_per_s']:>10,.0f}"
                f"{row['bases_per_s'] / 1e6:>10.1f}{row['bases_per_core_s'] / 1e6:>9.1f}{row['peak_mb']:>7.0f}"
                f"{hours(row['training_set_s']):>11}"
            )
    record(figures | machine(torch.device("cpu")), json_path)


def rates(found: dict[str, float], reads: int) -> dict[str, float]:
    """Figures a second; core-seconds are what the kernel says that all processes took."""
    bases = reads * READ_LENGTH_BP
    return {
        "reads": reads,
        "reads_per_s": reads / found["seconds"],
        "bases_per_s": bases / found["seconds"],
        "bases_per_core_s": bases / found["cpu_seconds"],
        "training_set_s": TRAINING_SET_BASES / bases * found["seconds"],
    }


def hours(seconds: float) -> str:
    """``12 min`` or ``3.4 h``."""
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def write_reads(path: Path, count: int) -> Path:
    """Labelled reads of the shipped genomes, and their table of classes."""
    from setting import GENOME

    genomes = [
        np.frombuffer(clean_sequence(next(read_records(file)).sequence).encode(), np.uint8)
        for file in sorted(GENOME.parent.glob("*.fna.gz"))
    ]
    random = np.random.default_rng(0)
    with open(path, "wb") as out:
        for first in range(0, count, CHUNK_READS):
            places = zip(random.integers(0, len(genomes), CHUNK_READS), random.random(CHUNK_READS), strict=True)
            for number, (index, at) in enumerate(list(places)[: count - first], first):
                start = int(at * (len(genomes[index]) - READ_LENGTH_BP))
                read = genomes[index][start : start + READ_LENGTH_BP].tobytes()
                out.write(b">lbl|%d|%d|150|read_%d/%d\n%s\n" % (index, 1000 + index, number // 2, 1 + number % 2, read))
    rows = "".join(f"{index}\tclass {index}\n" for index in range(len(genomes)))
    (path.parent / "mapping.tsv").write_text(f"class_id\tlabel_name\n{rows}")
    return path


def measured(side: str, *words: str) -> dict[str, float] | None:
    """Seconds, core-seconds and peak memory of one side; ``None`` when a library is missing."""
    command = [sys.executable, __file__, "--side", side, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "HF_DATASETS_OFFLINE": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    watched = psutil.Process(process.pid)
    peak = 0
    while process.poll() is None:
        try:
            peak = max(peak, sum(one.memory_info().rss for one in (watched, *watched.children(recursive=True))))
        except psutil.Error:
            continue
        time.sleep(SAMPLED_S)
    out, err = process.communicate()
    if "ModuleNotFoundError" in err:
        return None
    if process.returncode:
        raise RuntimeError(err)
    return {**json.loads(out.splitlines()[-1]), "peak_mb": peak / 1e6}


def timed(work: Callable[[], object]) -> None:
    """Print how long it takes."""
    before, began = cpu_seconds(), time.perf_counter()
    work()
    print(json.dumps({"seconds": time.perf_counter() - began, "cpu_seconds": cpu_seconds() - before}))


def cpu_seconds() -> float:
    """Of this process and the children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def prepare_side(fasta: str, mapping: str, store: str, workers: str) -> None:
    """This project."""
    from metagene_classifier.config import DEFAULT_HEADER_REGEX
    from metagene_classifier.reads.headers import HeaderPattern
    from metagene_classifier.reads.labelled import LabelSource
    from metagene_classifier.reads.labels import read_mapping
    from metagene_classifier.store.preparing.prepare import prepare
    from metagene_classifier.store.preparing.request import PrepareRequest
    from metagene_classifier.tokenization.huggingface import load_huggingface

    request = PrepareRequest(
        files=[Path(fasta)],
        labels=read_mapping(mapping),
        source=LabelSource(HeaderPattern(DEFAULT_HEADER_REGEX)),
        labels_from="header",
        strict=True,
        tokenizer=load_huggingface(TOKENIZER, "METAGENE-1"),
    )
    os.environ["MGC_NO_CACHE"] = "1"
    timed(lambda: prepare(request, Path(store), workers=int(workers), tell=lambda line: None))


def disk_side(fasta: str, store: str, copy: str) -> None:
    """Reading the file, and writing as many bytes as its store has."""
    size = sum(path.stat().st_size for path in (Path(store) / "shards").iterdir())

    def work() -> None:
        with open(fasta, "rb") as source, open(copy, "wb") as out:
            left = size
            while piece := source.read(2**22):
                out.write(piece[:left])
                left -= min(len(piece), left)
            os.fsync(out.fileno())

    timed(work)


def biopython_side(fasta: str, output: str) -> None:
    """Biopython, and one call of the Hugging Face tokenizer a read."""
    from Bio import SeqIO
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)

    def work() -> None:
        with open(output, "wb") as out:
            for item in SeqIO.parse(fasta, "fasta"):
                ids = tokenizer(str(item.seq), add_special_tokens=False)["input_ids"]
                out.write(np.asarray(ids, np.uint16).tobytes())

    timed(work)


def datasets_side(fasta: str, output: str, processes: str) -> None:
    """A data set of the reads, over which the fast tokenizer is mapped in batches."""
    from Bio import SeqIO
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoTokenizer

    disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)

    def tokens(batch: dict[str, list[str]]) -> dict[str, Any]:
        return {"tokens": tokenizer(batch["sequence"], add_special_tokens=False)["input_ids"]}

    def work() -> None:
        reads = ({"header": item.description, "sequence": str(item.seq)} for item in SeqIO.parse(fasta, "fasta"))
        data = Dataset.from_generator(lambda: reads, cache_dir=output, fingerprint="reads")
        count = None if processes == "1" else int(processes)
        data.map(tokens, batched=True, remove_columns=["sequence"], num_proc=count)

    timed(work)


SIDES: dict[str, Callable[..., None]] = {
    "prepare": prepare_side,
    "disk": disk_side,
    "biopython": biopython_side,
    "datasets": datasets_side,
}


if __name__ == "__main__":
    main()
