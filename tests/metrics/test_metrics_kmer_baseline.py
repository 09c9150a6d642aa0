import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_classifier.errors import DataError

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kmer_baseline.py"
spec = importlib.util.spec_from_file_location("kmer_baseline", SCRIPT)
kmer_baseline = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kmer_baseline)


def reverse_complement(read):
    return read[::-1].translate(str.maketrans("ACGT", "TGCA"))


def counted_plainly(read, k):
    """Canonical k-mers and their shares, most plainly written."""
    kmers = [read[i : i + k] for i in range(len(read) - k + 1)]
    counts = Counter(min(kmer, reverse_complement(kmer)) for kmer in kmers if set(kmer) <= set("ACGT"))
    return {kmer: count / counts.total() for kmer, count in counts.items()}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("ACGTN", max_size=30), max_size=6), st.integers(1, 4))
def test_frequencies_are_those_of_a_plain_count(reads, k):
    found = kmer_baseline.kmer_frequencies(reads, k)
    kmers = [""]
    for _ in range(k):
        kmers = [kmer + base for kmer in kmers for base in "ACGT"]
    columns = sorted({min(kmer, reverse_complement(kmer)) for kmer in kmers})
    expected = [[counted_plainly(read, k).get(kmer, 0) for kmer in columns] for read in reads]
    assert found.shape == (len(reads), len(columns))
    assert np.allclose(found, np.array(expected).reshape(found.shape))


def test_both_strands_of_a_read_look_the_same():
    forward, reverse = kmer_baseline.kmer_frequencies(["ACGGTTACCA", reverse_complement("ACGGTTACCA")])
    assert forward.tolist() == reverse.tolist()
    assert len(forward) == 136


def test_batches_join_without_a_seam(monkeypatch):
    reads = ["ACGTACGGT", "TTTTTTT", "ACG", "GATTACAGATTACA", ""]
    whole = kmer_baseline.kmer_frequencies(reads)
    monkeypatch.setattr(kmer_baseline, "_BATCH_READS", 2)
    assert np.array_equal(kmer_baseline.kmer_frequencies(reads), whole)


def random_reads(count, gc, seed):
    rng = np.random.default_rng(seed)
    share = [(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2]
    return ["".join(rng.choice(list("ACGT"), 100, p=share)) for _ in range(count)]


def test_organisms_of_different_gc_are_told_apart_and_an_absent_class_stays():
    train, test = ([*random_reads(60, 0.3, seed), *random_reads(60, 0.7, seed + 1)] for seed in (1, 3))
    truth = np.repeat([0, 2], 60)
    metrics = kmer_baseline.kmer_baseline(train, truth, test, truth, ["low", "never seen", "high"])
    assert metrics.macro_f1 > 0.95
    assert metrics.classes_absent == ("never seen",)


def test_one_class_alone_cannot_be_trained_on():
    with pytest.raises(DataError, match="at least two classes"):
        kmer_baseline.kmer_baseline(["ACGTA"], np.array([0]), ["ACGTA"], np.array([0]), ["a", "b"])


def test_the_script_prints_and_writes_its_macro_f1(tmp_path):
    for name, seed in (("train", 1), ("test", 5)):
        with open(tmp_path / f"{name}.fa", "w") as out:
            for class_id, gc in (("7", 0.3), ("9", 0.7)):
                for number, read in enumerate(random_reads(40, gc, seed + int(class_id))):
                    out.write(f">lbl|{class_id}|562|100|read {number}\n{read}\n")
    (tmp_path / "map.tsv").write_text("class_id\tlabel_name\n7\tlow\n9\thigh\n")
    command = [sys.executable, SCRIPT, "--train", "train.fa", "--test", "test.fa", "--mapping_tsv", "map.tsv"]
    command += ["--max-train-reads", "50", "--json", "out.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["train_reads"] == 50
    assert written["reads"] == 80
    assert written["macro_f1"] > 0.9
    assert f"{written['macro_f1']:.4f}" in done.stdout


def test_a_missing_file_is_one_line(tmp_path):
    (tmp_path / "map.tsv").write_text("class_id\tlabel_name\n7\tlow\n")
    command = [sys.executable, SCRIPT, "--train", "no.fa", "--test", "no.fa", "--mapping-tsv", "map.tsv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no.fa" in done.stderr
    assert "Traceback" not in done.stderr
