"""Preparing as a program: interrupted, killed, robbed of a worker, and on several ranks."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from metagene_classifier.store.tokens import TokenStore

PROGRAM = Path(__file__).with_name("small_prepare.py")
ENOUGH_SHARDS = 3
PATIENCE_S = 120


@pytest.fixture(scope="module")
def many_reads(tmp_path_factory) -> Path:
    """60,000 reads, 11 MB: a hundred shards."""
    bases = random.Random(1)
    sequences = ["".join(bases.choices("ACGT", k=150)) for _ in range(500)]
    path = tmp_path_factory.mktemp("many") / "reads.fa"
    path.write_text("".join(f">lbl|{n % 3}|1|150|read {n}/1\n{sequences[n % 500]}\n" for n in range(60_000)))
    return path


def started(reads: Path, mapping: Path, store: Path) -> subprocess.Popen[str]:
    words = ["prepare", "--input", str(reads), "--mapping-tsv", str(mapping), "--output", str(store), "--workers", "2"]
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def some_shards(program: subprocess.Popen[str], store: Path) -> None:
    """Wait until a few shards are there."""
    end = time.monotonic() + PATIENCE_S
    while len(list((store / "shards").glob("*.json"))) < ENOUGH_SHARDS:
        assert program.poll() is None, program.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


def goes_on(reads: Path, mapping: Path, store: Path) -> None:
    """The same command again makes all of the store, and keeps the shards that are there."""
    times = {path: path.stat().st_mtime_ns for path in (store / "shards").glob("*.json")}
    assert len(times) >= ENOUGH_SHARDS
    program = started(reads, mapping, store)
    out, err = program.communicate(timeout=PATIENCE_S)
    assert program.returncode == 0, err
    assert out.startswith(f"{store}: 60,000 reads of 3 classes")
    assert "going on in" in err
    assert {path: path.stat().st_mtime_ns for path in times} == times
    opened = TokenStore.open(store)
    assert opened.damaged() == []
    assert opened.reads_per_class.tolist() == [20_000] * 3


def test_ctrl_c_says_how_to_go_on_and_the_workers_are_quiet(many_reads, labelled_files, tmp_path):
    store = tmp_path / "store"
    program = started(many_reads, labelled_files.mapping_tsv, store)
    some_shards(program, store)
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does
    out, err = program.communicate(timeout=PATIENCE_S)
    assert program.returncode == 130
    assert out == ""
    lines = [line for line in err.splitlines() if line]
    assert "run the same command again to go on" in lines[0]
    assert lines[1:] == ["mgc: interrupted"]
    goes_on(many_reads, labelled_files.mapping_tsv, store)


def test_a_killed_program_leaves_no_workers_and_goes_on(many_reads, labelled_files, tmp_path):
    store = tmp_path / "store"
    program = started(many_reads, labelled_files.mapping_tsv, store)
    some_shards(program, store)
    workers = psutil.Process(program.pid).children(recursive=True)
    program.kill()
    program.communicate(timeout=PATIENCE_S)
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE_S)
    assert len(workers) >= 2
    assert alive == []
    goes_on(many_reads, labelled_files.mapping_tsv, store)


def test_a_killed_worker_is_one_line(many_reads, labelled_files, tmp_path):
    store = tmp_path / "store"
    program = started(many_reads, labelled_files.mapping_tsv, store)
    some_shards(program, store)
    workers = psutil.Process(program.pid).children()
    next(worker for worker in workers if "spawn_main" in " ".join(worker.cmdline())).kill()
    _, err = program.communicate(timeout=PATIENCE_S)
    assert program.returncode == 1
    assert len(err.splitlines()) == 1
    assert "a worker process was killed (most often because memory ran out)" in err
    goes_on(many_reads, labelled_files.mapping_tsv, store)


def test_workers_import_neither_torch_nor_arrow():
    code = "import sys, metagene_classifier.store.preparing.pool; print({'torch', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


RANK = """
import os, sys
from pathlib import Path
from metagene_classifier.config import DEFAULT_HEADER_REGEX
from metagene_classifier.hub import RESOURCES
from metagene_classifier.reads.headers import HeaderPattern
from metagene_classifier.reads.labelled import LabelSource
from metagene_classifier.reads.labels import read_mapping
from metagene_classifier.store.preparing import cached
from metagene_classifier.store.preparing.request import PrepareRequest
from metagene_classifier.tokenization.huggingface import load_huggingface

if __name__ == "__main__":
    tokenizer = load_huggingface(RESOURCES / "tokenizers" / "metagene-1", "metagene-1")
    source = LabelSource(HeaderPattern(DEFAULT_HEADER_REGEX))
    request = PrepareRequest([Path(sys.argv[1])], read_mapping(sys.argv[2]), source, "header", True, tokenizer)
    if os.environ["LOCAL_RANK"] == "1":
        cached.prepare = None  # it must not prepare
    store = cached.cached_store(request, workers=1, tell=lambda line: None)
    print(store.folder, len(store), len(store.tokens(0)))
    sys.stdout.flush()
    sys.stdin.readline()
"""


@pytest.mark.parametrize("no_cache", ["0", "1"])
def test_one_rank_of_a_machine_prepares_and_the_others_wait(no_cache, labelled_files, tmp_path):
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    words = [sys.executable, str(script), str(labelled_files.train_fasta), str(labelled_files.mapping_tsv)]

    def rank(number: int) -> subprocess.Popen[str]:
        ours = {"LOCAL_RANK": str(number), "LOCAL_WORLD_SIZE": "2", "MGC_NO_CACHE": no_cache}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return subprocess.Popen(words, env={**os.environ, "MGC_CACHE": str(tmp_path / "cache"), **ours}, **pipes)

    second = rank(1)
    time.sleep(1)  # it is there first
    assert second.poll() is None
    first = rank(0)
    lines = [process.stdout.readline() for process in (first, second)]
    assert lines[0] == lines[1]
    folder, reads, _ = lines[0].split()
    assert reads == "48"
    for process in (second, first):
        process.communicate("\n", timeout=PATIENCE_S)
        assert process.returncode == 0
    assert Path(folder).exists() == (no_cache == "0")
