"""Whole predictions as a user runs them: ranks, pairs, long reads, sheets of samples, and every format at once."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from metagene_classifier.prediction import scorer as scorer_module
from metagene_classifier.reads.files import read_records

from .conftest import GC_SHARES, random_read

NAMES = list(GC_SHARES)


def rows(text: str, delimiter: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter=delimiter))


def fastq(path: Path, reads: list[tuple[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"@{name}\n{bases}\n+\n{'I' * len(bases)}\n" for name, bases in reads)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode(), mtime=0))
    else:
        path.write_text(text)
    return path


def made_reads(seed: int, count: int, shares: list[float] | None = None) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    shares = shares or list(GC_SHARES.values())
    return [(f"M00:{n}", random_read(rng, shares[n % len(shares)], rng.randint(60, 120))) for n in range(count)]


def mates(folder: Path, reads: list[tuple[str, str]]) -> tuple[Path, Path, Path]:
    """R1, R2 and both interleaved; the second mate is the second half of the read."""
    halves = [(name, bases[: len(bases) // 2], bases[len(bases) // 2 :]) for name, bases in reads]
    first = fastq(folder / "s_R1.fq.gz", [(f"{name} 1:N:0:ACGT", one) for name, one, _ in halves])
    second = fastq(folder / "s_R2.fq.gz", [(f"{name} 2:N:0:ACGT", other) for name, _, other in halves])
    both = [(f"{name}/{mate}", bases) for name, *two in halves for mate, bases in enumerate(two, 1)]
    return first, second, fastq(folder / "s.fq", both)


# --- ranks, thresholds, refusal


def test_calls_have_ranks_lineages_and_reasons(ranked, mgc, tmp_path):
    rng = random.Random(1)
    poly = "AC" * 60
    reads = fastq(
        tmp_path / "r.fq",
        [("low", random_read(rng, 0.25, 150)), ("short", "ACGTTGCAACGG"), ("simple", poly), ("none", "NNNN")],
    )
    done = mgc("predict", "--input", reads, "--ckpt", ranked, "--output", "-")
    table = rows(done.out)
    assert list(table[0])[6:] == ["reason", "lineage"]
    assert (table[0]["call"], table[0]["taxid"], table[0]["rank"]) == ("Lowia gcensis", "100", "species")
    assert table[0]["lineage"] == "Bacteria;Gcensis;Lowia gcensis"
    assert [row["reason"] for row in table] == ["", "too short", "low complexity", "no bases"]
    assert [row["call"] for row in table[1:]] == ["unclassified"] * 3
    closed = rows(mgc("predict", "--input", reads, "--ckpt", ranked, "--output", "-", "--closed-set").out)
    assert [row["reason"] for row in closed] == ["", "", "", "no bases"]


def test_a_higher_cut_off_gives_higher_ranks_and_fewer_calls(ranked, mgc, tmp_path):
    reads = fastq(tmp_path / "r.fq", made_reads(2, 90))

    def ranks(*options: object) -> list[str]:
        return [
            row["rank"]
            for row in rows(mgc("predict", "--input", reads, "--ckpt", ranked, "--output", "-", *options).out)
        ]

    usual, sure, closed = ranks(), ranks("--confidence", 0.97), ranks("--closed-set")
    assert ranks("--confidence", 0.8) == usual
    assert ranks("--target-precision", 0.9) == ranks("--confidence", 0.95)
    assert closed == ["species"] * 90
    assert "genus" in sure and sure.count("species") < usual.count("species") < 90
    refused = mgc("predict", "--input", reads, "--ckpt", ranked, "--output", "-", "--target-precision", 0.999)
    assert refused.code == 2 and "the best is 0.9900, with --confidence 0.95" in refused.err
    both = mgc("predict", "--input", reads, "--ckpt", ranked, "--output", "-", "--confidence", 0.5, "--closed-set")
    assert both.code == 2 and len(both.err.splitlines()) == 1


def test_a_taxonomy_can_be_given_to_a_model_without_one(trained, taxdump, mgc, tmp_path):
    reads = fastq(tmp_path / "r.fq", made_reads(3, 12))
    plain = mgc("predict", "--input", reads, "--ckpt", trained, "--output", "-")
    with_ranks = mgc("predict", "--input", reads, "--ckpt", trained, "--output", "-", "--taxonomy", taxdump)
    assert "is not calibrated" in plain.err
    assert [row["call"] for row in rows(plain.out)] == [row["call"] for row in rows(with_ranks.out)]
    assert {row["rank"] for row in rows(with_ranks.out)} == {"species"}
    (taxdump / "nodes.dmp").write_text((taxdump / "nodes.dmp").read_text().replace("60\t|\t2", "60\t|\t102"))
    circle = mgc("predict", "--input", reads, "--ckpt", trained, "--output", "-", "--taxonomy", taxdump)
    assert circle.code == 1 and "is its own ancestor" in circle.err and len(circle.err.splitlines()) == 1


def test_both_strands_are_averaged(ranked, mgc, tmp_path):
    reads = made_reads(4, 20)
    turned = [(name, bases[::-1].translate(str.maketrans("ACGT", "TGCA"))) for name, bases in reads]
    words = ("predict", "--ckpt", ranked, "--output", "-", "--strand", "average", "--device", "cpu")
    ahead = mgc(*words, "--input", fastq(tmp_path / "a.fq", reads))
    back = mgc(*words, "--input", fastq(tmp_path / "b.fq", turned))
    single = mgc(*words, "--input", tmp_path / "a.fq", "--strand", "single")
    assert [row["call"] for row in rows(ahead.out)] == [row["call"] for row in rows(back.out)]
    for left, right in zip(rows(ahead.out), rows(back.out), strict=True):
        assert float(left["confidence"]) == pytest.approx(float(right["confidence"]), abs=2e-5)
    assert single.out != ahead.out
    assert "was measured on single strands" in ahead.err and "was measured" not in single.err


@pytest.mark.parametrize(("cutoff", "refused"), [(-1.0, 12), (1e9, 0)])
def test_strangers_are_refused_by_their_distance_to_the_classes(cutoff, refused, ranked, mgc, tmp_path):
    """Whatever the probability; every distance lies between the two cut-offs."""
    from metagene_classifier.model.calibration import RefusalFacts
    from metagene_classifier.model.centroids import CENTROIDS_FILE, Centroids
    from metagene_classifier.model.description import file_digests, read_description, write_description

    folder = tmp_path / "model"
    shutil.copytree(ranked, folder)
    Centroids(np.eye(32, dtype=np.float32), np.eye(3, 32, dtype=np.float32)).save(folder)
    description = read_description(folder)
    assert description.calibration is not None
    refusal = RefusalFacts(score="centroid", cutoff=cutoff, figures={}, known=1, unknown=1, folds=2)
    calibration = description.calibration.model_copy(update={"refusal": refusal, "threshold": 0.01})
    files = description.files | file_digests(folder, [CENTROIDS_FILE])
    write_description(folder, description.model_copy(update={"calibration": calibration, "files": files}))
    reads = fastq(tmp_path / "r.fq", made_reads(3, 12))
    for more in ((), ("--strand", "average")):
        done = mgc("predict", "--input", reads, "--ckpt", folder, "--output", "-", *more)
        assert [row["reason"] for row in rows(done.out)].count("unlike the training reads") == refused, done.err
    closed = mgc("predict", "--input", reads, "--ckpt", folder, "--output", "-", "--closed-set")
    assert not any(row["reason"] for row in rows(closed.out))


# --- pairs and long reads


def test_two_files_and_an_interleaved_one_give_the_same_calls(ranked, mgc, tmp_path):
    reads = made_reads(5, 90)
    first, second, both = mates(tmp_path, reads)
    words = ("predict", "--ckpt", ranked, "--device", "cpu", "--output", "-")
    by_two = mgc(*words, "--input", first, "--input2", second)
    assert by_two.code == 0, by_two.err
    assert mgc(*words, "--input", both, "--interleaved").out == by_two.out
    table = rows(by_two.out)
    assert [row["read_id"] for row in table] == [name for name, _ in reads]
    assert [int(row["length_bp"]) for row in table] == [len(bases) for _, bases in reads]
    assert "90 pairs written" in by_two.err


def test_the_probabilities_of_mates_are_multiplied(trained, mgc, tmp_path):
    first, second, both = mates(tmp_path, made_reads(5, 12))
    words = ("predict", "--ckpt", trained, "--output", "-", "--probabilities")

    def probabilities(*options: object) -> np.ndarray:
        table = rows(mgc(*words, *options).out)
        return np.array([[float(row[f"prob_{name}"]) for name in NAMES] for row in table])

    product = probabilities("--input", first) * probabilities("--input", second)
    expected = product / product.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities("--input", both, "--interleaved"), expected, atol=1e-4)


def test_mates_out_of_step_keep_the_calls_before(ranked, mgc, tmp_path, monkeypatch):
    monkeypatch.setattr(scorer_module, "READS_PER_BLOCK", 9)
    reads = made_reads(6, 30)
    first, _, _ = mates(tmp_path, reads)
    second = fastq(tmp_path / "other.fq", [(f"{name} 2:N:0:A", bases) for name, bases in reads if name != "M00:20"])
    output = tmp_path / "calls.csv"
    failed = mgc("predict", "--input", first, "--input2", second, "--ckpt", ranked, "--output", output)
    assert failed.code == 1 and len(failed.err.splitlines()) == 1
    assert "record 21: 'M00:20' and 'M00:21' are no mates" in failed.err
    assert f"the calls of the first 20 pairs are in {output}.partial" in failed.err
    assert len(rows(Path(f"{output}.partial").read_text())) == 20 and not output.exists()
    short = fastq(tmp_path / "short.fq", [(f"{name} 2:N:0:A", bases) for name, bases in reads[:25]])
    failed = mgc("predict", "--input", first, "--input2", short, "--ckpt", ranked, "--output", output)
    assert failed.code == 1 and "ends after 25 records" in failed.err and "first 25 pairs" in failed.err


def test_a_chimera_shows_in_its_windows(ranked, mgc, tmp_path):
    rng = random.Random(7)
    low, high = random_read(rng, 0.25, 1500), random_read(rng, 0.75, 1500)
    reads = fastq(tmp_path / "long.fq", [("chimera", low + high), ("whole", random_read(rng, 0.25, 1200))])
    windows, kraken = tmp_path / "windows.tsv", tmp_path / "calls.kraken"
    done = mgc(
        *("predict", "--input", reads, "--ckpt", ranked, "--output", tmp_path / "calls.csv"),
        *("--windows", windows, "--write", f"kraken={kraken}"),
    )
    assert done.code == 0, done.err
    table = rows(windows.read_text(), "\t")
    assert list(table[0]) == [
        *("read_id", "mate", "window", "start_bp", "end_bp", "call", "taxid", "rank", "confidence"),
    ]
    chimera = [row for row in table if row["read_id"] == "chimera"]
    assert [int(row["window"]) for row in chimera] == list(range(1, len(chimera) + 1))
    assert chimera[0]["start_bp"] == "0" and chimera[-1]["end_bp"] == "3000"
    for row in chimera:
        if int(row["end_bp"]) <= 1500:
            assert row["call"] == "Lowia gcensis"
        if int(row["start_bp"]) >= 1500:
            assert row["call"] == "Highia gcensis"
    assert {row["call"] for row in table if row["read_id"] == "whole"} == {"Lowia gcensis"}
    hits = kraken.read_text().splitlines()[0].split("\t")[4].split()
    assert [hit.split(":")[0] for hit in hits] == [row["taxid"] or "0" for row in chimera]


def test_reads_of_one_name_are_kept_by_position(ranked, mgc, tmp_path):
    rng = random.Random(8)
    reads = fastq(tmp_path / "r.fq", [("same", random_read(rng, gc, 150)) for gc in (0.25, 0.75, 0.25)])
    table = rows(mgc("predict", "--input", reads, "--ckpt", ranked, "--output", "-").out)
    assert [(row["read_id"], row["call"]) for row in table] == [
        *(("same", "Lowia gcensis"), ("same", "Highia gcensis"), ("same", "Lowia gcensis")),
    ]


# --- outputs


def test_every_format_of_one_run_tells_of_the_same_reads(ranked, mgc, tmp_path):
    first, second, _ = mates(tmp_path, [*made_reads(9, 38), ("poly", "A" * 120), ("none", "N" * 100)])
    out = tmp_path / "out"
    done = mgc(
        *("predict", "--input", first, "--input2", second, "--ckpt", ranked, "--output", out / "calls.tsv"),
        *("--write", f"csv={out / 'calls.csv'}", "--write", f"parquet={out / 'calls.parquet'}"),
        *("--write", f"kraken={out / 'calls.kraken'}", "--write", f"kraken-report={out / 'calls.kreport'}"),
        *("--write", f"profile={out / 'profile.tsv'}", "--write", f"matrix={out / 'm.tsv'}"),
        *("--classified-out", out / "c#.fq", "--unclassified-out", out / "u.fq.gz", "--report", out / "report.html"),
        *("--bootstraps", 5, "--device", "cpu"),
    )
    assert done.code == 0, done.err
    calls = rows((out / "calls.csv").read_text())
    assert calls == rows((out / "calls.tsv").read_text(), "\t")
    called = [row for row in calls if row["call"] != "unclassified"]
    assert 20 < len(called) <= 38
    kraken = [line.split("\t") for line in (out / "calls.kraken").read_text().splitlines()]
    assert [line[2] for line in kraken] == [row["taxid"] or "0" for row in calls]
    assert all("|" in line[3] and " |:| " in line[4] for line in kraken)
    report = [line.split("\t") for line in (out / "calls.kreport").read_text().splitlines()]
    assert [int(line[1]) for line in report[:2]] == [40 - len(called), len(called)]
    assert [read.id for read in read_records(out / "c_1.fq")] == [row["read_id"] for row in called]
    assert len(list(read_records(out / "c_2.fq"))) == len(called)
    assert len(list(read_records(out / "u.fq.gz"))) == 2 * (40 - len(called))
    assert "40" in (out / "report.html").read_text() and not list(out.glob("*.partial"))


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--output", "{out}/a.csv", "--write", "kraken={out}/a.csv"], 1, "a.csv: two outputs would have this name"),
        (["--output", "{out}/a.csv", "--windows", "{out}/a.csv.partial"], 1, "two outputs would have this name"),
        (["--output", "{out}"], 1, "is a folder"),
        (["--output", "{out}/a.csv", "--report", "{out}"], 1, "is a folder"),
        (["--output", "{out}/a.csv", "--write", "profile={reads}"], 1, "would overwrite the input"),
        (["--output", "{out}/a.csv", "--unclassified-out", "{reads}"], 1, "would overwrite the input"),
        (["--output", "{out}/a.csv", "--write", "krakn={out}/b"], 2, "did you mean 'kraken'?"),
        (["--output", "{out}/a.csv", "--write", "kraken"], 2, "name its file, as in --write kraken=calls.kraken"),
        (["--output", "-", "--format", "parquet"], 2, "cannot go to standard output"),
        (["--output", "-", "--format", "kraken-report"], 2, "cannot go to standard output"),
        ([], 2, "say where the calls go"),
        (["--output", "{out}/a.csv", "--output-dir", "{out}"], 2, "give one of them"),
        (["--output-dir", "{reads}"], 1, "is a file: name a folder"),
        (["--output-dir", "{out}", "--write", "kraken={out}/b"], 2, "files are named by sample"),
        (["--output-dir", "{out}", "--windows", "{out}/w.tsv"], 2, "this is the end of a file's name"),
        (["--input", "{reads}2", "--output", "{out}/a.csv"], 2, "give --output-dir DIR"),
        (["--input2", "{reads}", "--interleaved", "--output", "{out}/a.csv"], 2, "leave --interleaved out"),
        (["--output", "{out}/a.kraken", "--shard", "1/2"], 2, "--shard writes CSV alone"),
        (["--output", "{out}/a.csv", "--write", "tsv={out}/a.tsv", "--shard", "1/2"], 2, "leave --write out"),
        (["--output", "{out}/a.csv", "--windows", "{out}/w", "--per-sample"], 2, "leave --windows out"),
    ],
)
def test_outputs_and_options_are_checked_before_the_model_is_loaded(
    words, code, told, ranked, mgc, tmp_path, monkeypatch
):
    monkeypatch.setattr("metagene_classifier.prediction.opening.open_model", None)
    reads = fastq(tmp_path / "reads.fq", made_reads(1, 2))
    before = reads.read_bytes()
    out = tmp_path / "out"
    out.mkdir()
    named = [word.format(out=out, reads=reads) for word in words]
    refused = mgc("predict", "--input", reads, "--ckpt", ranked, *named)
    assert refused.code == code and told in refused.err, refused.err
    assert len(refused.err.splitlines()) == 1 and reads.read_bytes() == before and not list(out.iterdir())


# --- samples


@pytest.fixture
def sheet(tmp_path) -> Path:
    """A pair of lanes, and a single file, under names that a core facility gives."""
    mates(tmp_path / "lane1", made_reads(11, 20))
    mates(tmp_path / "lane2", made_reads(12, 10))
    fastq(tmp_path / "lake.fq", made_reads(13, 25, [0.25]))
    path = tmp_path / "sheet.csv"
    path.write_text(
        "sample,R1,R2\nsewer,lane1/s_R1.fq.gz,lane1/s_R2.fq.gz\nlake,lake.fq,\nsewer,lane2/s_R1.fq.gz,lane2/s_R2.fq.gz\n"
    )
    return path


def test_a_sheet_gives_the_files_of_every_sample_and_tables_over_all(ranked, sheet, mgc, tmp_path):
    out = tmp_path / "out"
    words = ("predict", "--ckpt", ranked, "--device", "cpu", "--output-dir", out, "--bootstraps", 5)
    done = mgc(*words, "--sample-sheet", sheet, "--report", out / "report.html")
    assert done.code == 0, done.err
    assert {path.name for path in out.iterdir()} == {
        *("sewer.csv", "sewer.profile.tsv", "sewer.done.json", "lake.csv", "lake.profile.tsv", "lake.done.json"),
        *("samples.matrix.tsv", "report.html"),
    }
    assert [row["read_id"] for row in rows((out / "sewer.csv").read_text())] == [
        f"M00:{number}" for count in (20, 10) for number in range(count)
    ]
    alone = mgc("predict", "--ckpt", ranked, "--device", "cpu", "--input", tmp_path / "lake.fq", "--output", "-")
    assert (out / "lake.csv").read_text() == alone.out
    matrix = (out / "samples.matrix.tsv").read_text()
    assert "sewer" in matrix.splitlines()[0] and "lake" in matrix.splitlines()[0]
    assert "sample sewer: 30 pairs written" in done.err and "sample lake: 25 reads written" in done.err


def test_a_run_again_goes_on_behind_what_is_finished(ranked, sheet, mgc, tmp_path):
    out = tmp_path / "out"
    words = ("predict", "--ckpt", ranked, "--device", "cpu", "--output-dir", out, "--bootstraps", 5)
    assert mgc(*words, "--sample-sheet", sheet).code == 0
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    times = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / "lake.csv").unlink()
    again = mgc(*words, "--sample-sheet", sheet)
    assert "sample sewer: finished by an earlier run" in again.err and "sample lake: 25 reads written" in again.err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    assert (out / "sewer.csv").stat().st_mtime_ns == times["sewer.csv"]
    other = mgc(*words, "--sample-sheet", sheet, "--confidence", 0.99)
    assert "finished by an earlier run" not in other.err
    fastq(tmp_path / "lake.fq", made_reads(14, 5))
    other = mgc(*words, "--sample-sheet", sheet, "--confidence", 0.99)
    assert "sample sewer: finished by" in other.err and "sample lake: 5 reads written" in other.err
    facts = json.loads((out / "sewer.done.json").read_text())
    (out / "sewer.done.json").write_text(json.dumps(facts | {"tally": {"version": 1}}))
    assert "sample sewer: 30 pairs written" in mgc(*words, "--sample-sheet", sheet, "--confidence", 0.99).err


def test_a_broken_sample_is_named_and_those_before_it_are_kept(ranked, sheet, mgc, tmp_path):
    out = tmp_path / "out"
    lake = tmp_path / "lake.fq"
    whole = lake.read_text()
    lake.write_text(whole[:-20])
    words = ("predict", "--ckpt", ranked, "--sample-sheet", sheet, "--output-dir", out, "--write", "csv")
    failed = mgc(*words)
    assert failed.code == 1 and "error: sample lake: " in failed.err and "record 25" in failed.err
    assert "(finished before it: 1 of 2; run again to go on)" in failed.err
    assert {path.name for path in out.iterdir()} == {"sewer.csv", "sewer.done.json", "lake.csv.partial"}
    lake.write_text(whole)
    mended = mgc(*words)
    assert mended.code == 0 and "sample sewer: finished by an earlier run" in mended.err
    assert {path.name for path in out.iterdir()} == {"sewer.csv", "sewer.done.json", "lake.csv", "lake.done.json"}


def test_a_sheet_with_faults_tells_all_of_them_before_anything_runs(ranked, mgc, tmp_path):
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("sample,R1,R2\na,missing.fq,\n../b,gone.fq,\n")
    refused = mgc("predict", "--ckpt", ranked, "--sample-sheet", sheet, "--output-dir", tmp_path / "out")
    assert refused.code == 1 and "missing.fq" in refused.err and "gone.fq" in refused.err and "../b" in refused.err
    assert not (tmp_path / "out").exists()


def test_several_inputs_are_samples(ranked, mgc, tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        fastq(tmp_path / f"{name}.fq", made_reads(seed, 6))
    words = ("predict", "--ckpt", ranked, "--output-dir", tmp_path / "out", "--write", "kraken", "--write", "biom")
    done = mgc(*words, "--input", tmp_path / "a.fq", "--input", tmp_path / "b.fq", "--windows", "windows.tsv")
    assert done.code == 0, done.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("a.kraken", "b.kraken", "a.done.json", "b.done.json", "a.windows.tsv", "b.windows.tsv", "samples.biom"),
    }


def test_an_interrupted_sample_says_what_it_has_and_a_run_again_finishes(ranked, tmp_path):
    """Ctrl-C while the second sample's reads are still being piped in."""
    pipe = tmp_path / "later.fq"
    fastq(tmp_path / "a.fq", made_reads(1, 12))
    reads = made_reads(2, 40)
    os.mkfifo(pipe)
    out = tmp_path / "out"
    code = (
        "import sys; from metagene_classifier.prediction import scorer; scorer.READS_PER_BLOCK = 8;"
        "from metagene_classifier.cli.main import main; main(sys.argv[1:])"
    )
    words = ["predict", "--ckpt", ranked, "--output-dir", out, "--write", "csv", "--device", "cpu"]
    words += ["--input", tmp_path / "a.fq", "--input", pipe]
    command = [sys.executable, "-c", code, *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process, open(pipe, "w") as feed:
        feed.write("".join(f"@{name}\n{bases}\n+\n{'I' * len(bases)}\n" for name, bases in reads[:20]))
        feed.flush()
        partial = out / "later.csv.partial"
        while not (partial.exists() and len(partial.read_text().splitlines()) >= 9) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert process.returncode == 130, told
    kept = len(rows(partial.read_text()))
    assert kept in (8, 16) and f"the calls of the first {kept} reads are in {partial}" in told
    assert (out / "a.done.json").exists() and not (out / "later.csv").exists()
