"""One file's calls computed by several runs or workers are, byte for byte, those of a single run."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from metagene_classifier.calling.calibrated import Calibrator
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.errors import MgcError
from metagene_classifier.model.description import read_description
from metagene_classifier.prediction import scorer as scorer_module
from metagene_classifier.prediction.calling import Caller, CallOptions
from metagene_classifier.prediction.formats.writing import FormatContext
from metagene_classifier.prediction.opening import ScorerRecipe
from metagene_classifier.prediction.preparing import Preparer
from metagene_classifier.prediction.reads import call_reads, format_file
from metagene_classifier.prediction.scorer import Scorer
from metagene_classifier.prediction.source import ReadSource
from metagene_classifier.prediction.stream_report import StreamReport

from .conftest import GC_SHARES, random_read

BLOCK_READS = 16


@pytest.fixture(scope="module")
def reads(tmp_path_factory) -> Path:
    """150 reads of 20 to 200 bp: nine whole blocks of 16, and one of six; some lower case, one without a base."""
    rng = random.Random(11)
    shares = list(GC_SHARES.values())
    path = tmp_path_factory.mktemp("reads") / "reads.fq"
    lines = []
    for number in range(150):
        bases = "" if number == 40 else random_read(rng, shares[number % 3], rng.randint(20, 200))
        bases = bases.lower() if number % 10 == 0 else bases
        lines.append(f"@M00:{number} 1:N:0:ACGT\n{bases}\n+\n{'I' * len(bases)}\n")
    path.write_text("".join(lines))
    return path


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(scorer_module, "READS_PER_BLOCK", BLOCK_READS)


@pytest.fixture
def whole(small_blocks, trained, reads, mgc, tmp_path) -> Path:
    """The calls of a single run, with all probabilities: every last digit counts."""
    return predict(mgc, trained, reads, tmp_path / "whole.csv")


@pytest.fixture(scope="module")
def mates(reads, tmp_path_factory) -> tuple[Path, Path]:
    """The same reads as pairs: the second mate is the read turned round, one of them too short to count."""
    first, second = (tmp_path_factory.mktemp("mates") / f"r_{mate}.fq.gz" for mate in (1, 2))
    first.write_bytes(gzip.compress(reads.read_bytes(), mtime=0))
    lines = reads.read_text().replace(" 1:N:0", " 2:N:0").splitlines()
    turned = [line[::-1] if number % 4 == 1 else line for number, line in enumerate(lines)]
    turned[4 * 7 + 1], turned[4 * 7 + 3] = "ACGT", "IIII"
    second.write_bytes(gzip.compress(("\n".join(turned) + "\n").encode(), mtime=0))
    return first, second


RANKED_PAIRS = ("--strand", "average", "--confidence", "0.9")


@pytest.fixture
def whole_pairs(small_blocks, ranked, mates, mgc, tmp_path) -> Path:
    """Pairs of a calibrated model with ranks, both strands averaged, by a single run."""
    return predict(mgc, ranked, mates[0], tmp_path / "whole.csv", "--input2", mates[1], *RANKED_PAIRS)


def predict(mgc, model: Path, source: Path, output: Path, *more: object) -> Path:
    words = ("predict", "--input", source, "--ckpt", model, "--output", output, "--device", "cpu", "--probabilities")
    done = mgc(*words, *more)
    assert done.code == 0, done.err
    return output


@pytest.mark.parametrize("count", [1, 3, 12])
def test_joined_shards_are_the_single_run(count, whole, trained, reads, mgc, tmp_path):
    """Of ten blocks: one shard with all, shards of three and four, and twelve of which two have none."""
    output = tmp_path / "calls.csv"
    for number in random.Random(count).sample(range(1, count + 1), count):
        predict(mgc, trained, reads, output, "--shard", f"{number}/{count}")
    joined = mgc("merge", "--output", output)
    assert joined.code == 0, joined.err
    assert output.read_bytes() == whole.read_bytes()
    assert f"150 reads of {count} shards" in joined.err
    assert "lower case to upper in 14 " in joined.err and "1 reads without a base" in joined.err
    assert "scores may differ" not in joined.err


def test_joined_shards_of_pairs_are_the_single_run(whole_pairs, ranked, mates, mgc, tmp_path):
    output = tmp_path / "calls.csv"
    for number in (2, 1, 3):
        predict(mgc, ranked, mates[0], output, "--input2", mates[1], *RANKED_PAIRS, "--shard", f"{number}/3")
    joined = mgc("merge", "--output", output)
    assert joined.code == 0, joined.err
    assert output.read_bytes() == whole_pairs.read_bytes()
    table = output.read_text().splitlines()
    assert len(table) == 151 and len({line.split(",")[3] for line in table}) > 2
    # Options that decide calls are the shards' own facts.
    for option in (("--strand", "single"), ("--confidence", "0.95"), ("--min-tokens", "9")):
        predict(mgc, ranked, mates[0], output, "--input2", mates[1], *RANKED_PAIRS, *option, "--shard", "2/3")
        refused = mgc("merge", "--output", output)
        assert refused.code == 1 and "do not belong together" in refused.err and option[0] in refused.err


def test_a_compressed_copy_on_another_machine_is_the_same_file(whole, trained, reads, mgc, tmp_path):
    packed = tmp_path / "elsewhere.gz"
    packed.write_bytes(gzip.compress(reads.read_bytes()))
    predict(mgc, trained, reads, tmp_path / "calls.csv", "--shard", "1/2")
    predict(mgc, trained, packed, tmp_path / "calls.csv", "--shard", "2/2")
    assert mgc("merge", "--output", tmp_path / "calls.csv").code == 0
    assert (tmp_path / "calls.csv").read_bytes() == whole.read_bytes()


def test_shards_of_other_models_reads_and_options_are_refused(small_blocks, trained, reads, mgc, tmp_path):
    output = tmp_path / "calls.csv"
    other = tmp_path / "other.fq"
    other.write_text(reads.read_text().replace("M00:149", "M00:150"))
    copy = tmp_path / "model"
    copy.mkdir()
    for path in (trained / "best").rglob("*"):
        target = copy / path.relative_to(trained / "best")
        target.mkdir(exist_ok=True) if path.is_dir() else target.write_bytes(path.read_bytes())
    description = json.loads((copy / "metagene_classifier.json").read_text())
    description["labels"][0]["taxid"] = 7
    (copy / "metagene_classifier.json").write_text(json.dumps(description))
    predict(mgc, trained, reads, output, "--shard", "1/2")
    for model, source, option, told in [
        (copy, reads, "window", "their models are others"),
        (trained, other, "window", "their reads are others, reads.fq with 150 reads and other.fq with 150 reads"),
        (trained, reads, "truncate", "long reads is window and truncate"),
    ]:
        predict(mgc, model, source, output, "--shard", "2/2", "--long-reads", option)
        refused = mgc("merge", "--output", output)
        assert refused.code == 1 and told in refused.err, refused.err
        assert len(refused.err.splitlines()) == 1 and not output.exists()


def test_a_shard_of_a_broken_file_is_not_finished(small_blocks, trained, reads, mgc, tmp_path):
    broken = tmp_path / "broken.fq.gz"
    packed = gzip.compress(reads.read_bytes())
    broken.write_bytes(packed[: len(packed) * 2 // 3])
    words = ("predict", "--input", broken, "--ckpt", trained, "--device", "cpu")
    failed = mgc(*words, "--output", tmp_path / "calls.csv", "--shard", "2/3")
    assert failed.code == 1 and "the calls of this shard's first " in failed.err
    assert {path.name for path in tmp_path.iterdir()} == {"broken.fq.gz", "calls.2-of-3.csv.partial"}
    kept = (tmp_path / "calls.2-of-3.csv.partial").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in kept[:32]] == [f"M00:{n}" for n in [*range(16, 32), *range(64, 80)]]


def test_a_killed_shard_is_run_again_alone(whole, trained, reads, mgc, tmp_path):
    """The process is killed outright while it waits for the rest of its input."""
    output = tmp_path / "calls.csv"
    words = ["predict", "--input", "-", "--ckpt", trained, "--output", output, "--device", "cpu", "--shard", "1/2"]
    code = (
        "import sys; from metagene_classifier.prediction import scorer; scorer.READS_PER_BLOCK = 16;"
        "from metagene_classifier.cli.main import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, *map(str, words), "--probabilities"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        lines = reads.read_text().splitlines(keepends=True)
        process.stdin.write("".join(lines[: 4 * 40]).encode())
        process.stdin.flush()
        partial = tmp_path / "calls.1-of-2.csv.partial"
        while not partial.exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert {path.name for path in tmp_path.iterdir()} == {"whole.csv", partial.name}
    predict(mgc, trained, reads, output, "--shard", "2/2")
    missing = mgc("merge", "--output", output)
    assert missing.code == 1 and "1 of 2 shards missing: 1: run them (again), as in --shard 1/2" in missing.err
    predict(mgc, trained, reads, output, "--shard", "1/2")
    assert mgc("merge", "--output", output).code == 0
    assert output.read_bytes() == whole.read_bytes()
    assert not partial.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--shard", "0/2"], "counted from 1"),
        (["--shard", "1/2", "--engine", "ray"], "leave --shard out"),
        (["--shard", "1/2", "--per-sample"], "--per-sample needs all reads of a sample in one place"),
        (["--engine", "ray", "--per-sample"], "--per-sample needs all reads of a sample in one place"),
        (["--shard", "1/2", "--output", "-"], "name a file in --output"),
        (["--workers", "2"], "--workers is for --engine ray"),
        (["--engine", "ray", "--input", "-"], "cannot read -: name a file in --input"),
        (["--engine", "ray", "--device-map", "auto"], "leave --device-map out"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(words, told, trained, reads, mgc, tmp_path):
    source = [] if "--input" in words else ["--input", reads]
    refused = mgc("predict", *source, "--ckpt", trained, "--output", tmp_path / "c.csv", *words)
    assert refused.code == 2 and told in refused.err
    assert len(refused.err.splitlines()) == 1 and not list(tmp_path.iterdir())


# --- over a cluster of Ray, here one of this machine alone


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    from metagene_classifier.prediction.ray_cluster import QUIET

    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUIET.items():
            patch.setenv(name, value)
        patch.setenv("OMP_NUM_THREADS", "1")
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
        yield
        ray.shutdown()


@dataclass(frozen=True)
class Dying:
    """Opens the model, in a worker that ends without a word: the first in its third micro-batch, others at once."""

    recipe: ScorerRecipe
    deaths: Path
    times: int

    def preparer(self) -> Preparer:
        return self.recipe.preparer()

    def open(self, tell: Callable[[str], None]) -> tuple[Any, Scorer]:
        model, scorer = self.recipe.open(tell)
        batches = 0

        def run(batch):
            nonlocal batches
            batches += 1
            died = len(self.deaths.read_bytes()) if self.deaths.exists() else 0
            if batches == (1 if died else 3) and died < self.times:
                with open(self.deaths, "ab") as out:
                    out.write(b"x")
                os._exit(1)
            return model.classifier(batch)

        return model, replace(scorer, run=run)


def call_all(blocks: Iterator[Any], model: Path, output: Path) -> None:
    labels = read_description(model).label_table()
    tree = ClassTree.of(labels)
    caller = Caller(labels, tree, Calibrator(None), CallOptions())
    call_reads(blocks, caller, [format_file("csv", output, FormatContext("s", labels, tree, False, True, "p"))])


def call_on_cluster(recipe: Any, model: Path, source: Path, output: Path, tell: Callable[[str], None]) -> StreamReport:
    import torch

    from metagene_classifier.prediction.on_ray import scored_on_ray
    from metagene_classifier.prediction.ray_cluster import Workers

    report = StreamReport()
    blocks = scored_on_ray(
        ReadSource(str(source)),
        workers=Workers(scoring=1, tokenizing=1, gpus=0, cpus=1.0, threads=torch.get_num_threads()),
        recipe=recipe,
        block_reads=BLOCK_READS,
        report=report,
        tell=tell,
    )
    call_all(blocks, model, output)
    return report


def test_a_worker_that_dies_costs_nothing_but_its_block(cluster, whole, trained, reads, tmp_path):
    recipe = Dying(ScorerRecipe(trained / "best", device="cpu"), tmp_path / "deaths", times=1)
    told: list[str] = []
    report = call_on_cluster(recipe, trained / "best", reads, tmp_path / "calls.csv", told.append)
    assert len(told) == 1 and told[0].startswith("a worker died scoring block ")
    assert (tmp_path / "deaths").read_bytes() == b"x"
    assert (tmp_path / "calls.csv").read_bytes() == whole.read_bytes()
    assert (report.reads, report.empty, report.cleaning.lower_case.reads) == (150, 1, 14)


@pytest.mark.slow
def test_pairs_over_a_cluster_are_the_single_run(cluster, whole_pairs, ranked, mates, mgc, tmp_path):
    output = tmp_path / "calls.csv"
    more = ("--input2", mates[1], *RANKED_PAIRS, "--engine", "ray", "--write", f"kraken={tmp_path / 'calls.kraken'}")
    predict(mgc, ranked, mates[0], output, *more)
    assert output.read_bytes() == whole_pairs.read_bytes()
    assert len((tmp_path / "calls.kraken").read_text().splitlines()) == 150
    other = fastq_without(mates[1], "M00:100", tmp_path / "other.fq")
    words = ("predict", "--ckpt", ranked, "--device", "cpu", "--input", mates[0], "--input2", other, "--output")
    alone = mgc(*words, tmp_path / "alone.csv")
    spread = mgc(*words, tmp_path / "spread.csv", "--engine", "ray")
    assert spread.code == 1 and spread.err == alone.err.replace("alone", "spread")
    assert "'M00:100' and 'M00:101' are no mates" in spread.err and "the first 100 pairs" in spread.err
    assert (tmp_path / "spread.csv.partial").read_bytes() == (tmp_path / "alone.csv.partial").read_bytes()


def fastq_without(packed: Path, name: str, path: Path) -> Path:
    lines = gzip.decompress(packed.read_bytes()).decode().splitlines(keepends=True)
    records = ["".join(lines[start : start + 4]) for start in range(0, len(lines), 4)]
    path.write_text("".join(record for record in records if not record.startswith(f"@{name} ")))
    return path


@pytest.mark.slow
def test_a_block_that_kills_every_worker_ends_the_run_with_the_calls_before_it(
    cluster, whole, trained, reads, tmp_path
):
    output = tmp_path / "calls.csv"
    recipe = Dying(ScorerRecipe(trained / "best", device="cpu"), tmp_path / "deaths", times=100)
    with pytest.raises(MgcError, match=r"4 workers died over block \d+ of the reads, scoring it") as failed:
        call_on_cluster(recipe, trained / "best", reads, output, lambda line: None)
    assert 4 <= (tmp_path / "deaths").stat().st_size <= 8  # two blocks wait at a worker at a time
    kept = (tmp_path / "calls.csv.partial").read_bytes()
    assert whole.read_bytes().startswith(kept) and not output.exists()
    assert f"the calls of the first {len(kept.splitlines()) - 1} reads" in str(failed.value)


@pytest.mark.slow
def test_a_broken_file_gives_the_calls_before_the_break(cluster, whole, trained, reads, mgc, tmp_path):
    broken = tmp_path / "broken.fq.gz"
    packed = gzip.compress(reads.read_bytes())
    broken.write_bytes(packed[: len(packed) * 2 // 3])
    words = ("predict", "--input", broken, "--ckpt", trained, "--device", "cpu", "--probabilities")
    alone = mgc(*words, "--output", tmp_path / "alone.csv")
    spread = mgc(*words, "--output", tmp_path / "spread.csv", "--engine", "ray")
    assert alone.code == spread.code == 1
    assert spread.err == alone.err.replace("alone", "spread")
    assert (tmp_path / "spread.csv.partial").read_bytes() == (tmp_path / "alone.csv.partial").read_bytes()


@pytest.mark.slow
def test_over_ray_a_user_sees_what_a_single_run_shows(trained, reads, tmp_path):
    """With blocks of the usual size, in a process of its own: what a library says on its own would only show there."""
    pytest.importorskip("ray.data")
    words = ["predict", "--input", reads, "--ckpt", trained, "--device", "cpu", "--probabilities", "--output"]
    command = [sys.executable, "-m", "metagene_classifier", *map(str, words)]
    alone, spread = (
        subprocess.run(
            [*command, str(tmp_path / "calls.csv"), *more],
            capture_output=True,
            text=True,
            env=os.environ | {"RAY_ADDRESS": "local"},
        )
        for more in ([], ["--engine", "ray"])
    )
    assert (spread.returncode, spread.stdout, spread.stderr) == (0, "", alone.stderr)


def test_without_ray_one_line_says_how_to_get_it(trained, reads, mgc, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    refused = mgc("predict", "--input", reads, "--ckpt", trained, "--output", tmp_path / "c.csv", "--engine", "ray")
    assert refused.code == 1 and "pip install 'metagene-classifier[ray]'" in refused.err
    assert len(refused.err.splitlines()) == 1
