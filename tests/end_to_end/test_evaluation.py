"""``mgc evaluate``: what it says of a model, checked against the calls that it writes."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from metagene_classifier.metrics.calibration import reliability
from metagene_classifier.model.calibration import CalibrationFacts, CutOff, ReliabilityFacts, TemperatureFacts
from metagene_classifier.model.description import read_description, write_description
from metagene_classifier.prediction import evaluation_tally
from metagene_classifier.reads.files import read_records
from metagene_classifier.reads.strand import reverse_complement

from .conftest import GC_SHARES, random_read

NAMES = list(GC_SHARES)
FILES = {
    *("metrics.json", "per_class.csv", "per_rank.csv", "groups.csv", "confusion_matrix.csv", "confusion_matrix.png"),
    *("predictions.csv", "report.html"),
}
# The names that programs have read since the first version.
CLOSED_SET = ("reads", "accuracy", "macro_f1", "micro_f1", "weighted_f1", "mcc", "auroc", "loss", "per_class")


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def truth_of(path: Path) -> list[str]:
    return [NAMES[int(read.header.split("|")[1])] for read in read_records(path)]


@pytest.fixture(scope="module")
def done_before(tmp_path_factory) -> tuple[Path, dict]:
    """Evaluations of the test reads as they are, by options: several tests look at the same."""
    return tmp_path_factory.mktemp("evaluations"), {}


@pytest.fixture
def evaluate(trained, world, mgc, tmp_path, done_before):
    """Evaluates the trained model and returns what it printed, and its metrics and folder."""
    folder, known = done_before

    def run(*options, reads=None, name=None):
        if name is None and reads is None and options in known:
            return known[options]
        out = folder / f"{len(known)}" if reads is None and name is None else tmp_path / (name or "evaluation")
        done = mgc("evaluate", "--ckpt", trained, "--input", reads or world.test, "--output-dir", out, *options)
        assert done.code == 0, done.err
        found = done, metrics_of(out), out
        if reads is None and name is None:
            known[options] = found
        return found

    return run


@pytest.fixture(scope="module")
def taxonomy(tmp_path_factory) -> Path:
    """Lowia and Midia are species of one family and two genera, Highia one of another; 100 was 7 once."""
    folder = tmp_path_factory.mktemp("taxonomy")
    nodes = {
        1: (1, "no rank", "root"),
        2: (1, "superkingdom", "Bacteria"),
        10: (2, "family", "Gcensaceae"),
        11: (2, "family", "Altaceae"),
        20: (10, "genus", "Lowia"),
        21: (10, "genus", "Midia"),
        22: (11, "genus", "Highia"),
        **{100 + place: (20 + place, "species", name) for place, name in enumerate(NAMES)},
        1000: (100, "strain", "Lowia gcensis strain 1"),
    }
    folder.joinpath("nodes.dmp").write_text(
        "".join(f"{one}\t|\t{up}\t|\t{rank}\t|\n" for one, (up, rank, _) in nodes.items())
    )
    folder.joinpath("names.dmp").write_text(
        "".join(f"{one}\t|\t{name}\t|\t\t|\tscientific name\t|\n" for one, (_, _, name) in nodes.items())
    )
    folder.joinpath("merged.dmp").write_text("7\t|\t100\t|\n")
    return folder


def test_evaluate_on_files_and_splits(trained, world, mgc, evaluate, tmp_path):
    by_file, metrics, out = evaluate()
    assert {path.name for path in out.iterdir()} == FILES
    by_split = mgc("evaluate", "--ckpt", trained / "best", "--split", "test", "--output-dir", tmp_path / "b")
    assert by_split.code == 0, by_split.err
    assert metrics == metrics_of(tmp_path / "b") and by_split.out == by_file.out
    assert set(CLOSED_SET) < set(metrics)
    printed = dict(line.split("\t") for line in by_file.out.splitlines())
    assert printed["reads"] == "48" and float(printed["accuracy"]) == pytest.approx(metrics["accuracy"], abs=1e-4)
    assert {"called", "precision", "sensitivity", "f1", "ece"} < set(printed)


def test_evaluate_calls_reads_as_predict_does(trained, world, mgc, evaluate, tmp_path):
    for options in ((), ("--closed-set",), ("--confidence", 0.8, "--strand", "average")):
        _, _, out = evaluate(*options)
        done = mgc("predict", "--ckpt", trained, "--input", world.test, "--output", tmp_path / "calls.csv", *options)
        assert done.code == 0, done.err
        assert (out / "predictions.csv").read_bytes() == (tmp_path / "calls.csv").read_bytes()


def test_figures_of_the_likeliest_classes_do_not_depend_on_refusal(evaluate, world):
    _, closed, out = evaluate("--closed-set")
    _, strict, _ = evaluate("--confidence", 0.95)
    assert {name: closed[name] for name in CLOSED_SET} == {name: strict[name] for name in CLOSED_SET}
    right = sum(
        one == row["call"] for one, row in zip(truth_of(world.test), rows(out / "predictions.csv"), strict=True)
    )
    assert closed["accuracy"] == pytest.approx(right / 48)
    assert closed["open"]["called"] == 48 and closed["open"]["correct"] == right
    assert strict["open"]["called"] < 48


def test_open_figures_are_those_of_the_calls_written(evaluate, world):
    _, metrics, out = evaluate("--confidence", 0.8)
    calls = [row["call"] for row in rows(out / "predictions.csv")]
    truth = truth_of(world.test)
    called = [(call, one) for call, one in zip(calls, truth, strict=True) if call != "unclassified"]
    right = sum(call == one for call, one in called)
    found = metrics["open"]
    assert 0 < len(called) < 48
    assert (found["called"], found["correct"], found["vague"]) == (len(called), right, 0)
    assert found["precision"] == pytest.approx(right / len(called))
    assert found["sensitivity"] == pytest.approx(right / 48)
    assert found["f1"] == pytest.approx(2 * right / (48 + len(called)))
    assert found["threshold"] == 0.8
    assert sum(found["unclassified_reasons"].values()) == found["unclassified"] == 48 - len(called)


@pytest.fixture
def calibrated(trained, tmp_path) -> Path:
    """The trained model with a temperature of 2 and a threshold of 0.6."""
    folder = tmp_path / "calibrated"
    shutil.copytree(trained / "best", folder)
    (folder / "confusion.safetensors").unlink(missing_ok=True)
    bins = ReliabilityFacts(edges=(0.0, 1.0), reads=(9,), confidence=(0.5,), accuracy=(0.5,), ece=0.0)
    facts = CalibrationFacts(
        temperature=TemperatureFacts(single=2.0, pairs=4.0, pairs_measured=False, reads=9),
        before=bins,
        after=bins,
        threshold=0.6,
        table=(CutOff(threshold=0.9, precision=0.99, sensitivity=0.5, called=5, f1=0.6),),
    )
    write_description(folder, read_description(folder).model_copy(update={"calibration": facts}))
    return folder


def test_confidence_of_a_calibrated_model_is_held_against_the_truth(
    calibrated, trained, world, mgc, evaluate, tmp_path
):
    _, plain, _ = evaluate("--closed-set")

    def run(name, *options):
        out = tmp_path / name
        done = mgc("evaluate", "--ckpt", calibrated, "--input", world.test, "--output-dir", out, *options)
        assert done.code == 0, done.err
        return metrics_of(out), rows(out / "predictions.csv")

    closed, calls = run("closed", "--closed-set")
    assert {name: closed[name] for name in CLOSED_SET} == {name: plain[name] for name in CLOSED_SET}
    confidence = np.array([float(row["confidence"]) for row in calls])
    right = np.array([row["call"] == one for row, one in zip(calls, truth_of(world.test), strict=True)])
    found = closed["calibration"]
    assert found["ece_after"] == pytest.approx(reliability(confidence, right).ece, abs=1e-5)
    assert found["ece_before"] == plain["calibration"]["ece_before"] != found["ece_after"]
    assert sum(found["after"]["reads"]) == sum(found["before"]["reads"]) == 48
    default, calls = run("default")
    assert default["open"]["threshold"] == 0.6
    assert default["open"]["called"] == sum(confidence >= 0.6) == sum(row["call"] != "unclassified" for row in calls)
    precise, _ = run("precise", "--target-precision", 0.98)
    assert precise["open"]["threshold"] == 0.9 and precise["open"]["called"] == sum(confidence >= 0.9)


def test_ranks_are_those_of_the_calls_written(evaluate, world, taxonomy):
    _, metrics, out = evaluate("--confidence", 0.8, "--taxonomy", taxonomy)
    ranks = {one["rank"]: one for one in metrics["ranks"]}
    assert list(ranks) == ["superkingdom", "family", "genus", "species"]
    family = dict(zip(NAMES, ("Gcensaceae", "Gcensaceae", "Altaceae"), strict=True))
    calls = rows(out / "predictions.csv")
    assert any(row["call"] == "Gcensaceae" for row in calls)  # species unsure, family clear
    at_family = [([*row["lineage"].split(";"), "", ""])[1] for row in calls]
    truth = [family[one] for one in truth_of(world.test)]
    right = sum(call == one for call, one in zip(at_family, truth, strict=True))
    assert ranks["family"]["accuracy"] == pytest.approx(right / 48)
    assert ranks["family"]["called"] == sum(call != "" for call in at_family)
    assert ranks["family"]["accuracy"] > ranks["species"]["accuracy"]
    assert metrics["open"]["vague"] == sum(row["rank"] not in ("species", "") for row in calls)
    table = rows(out / "per_rank.csv")
    assert [row["rank"] for row in table] == list(ranks)
    assert float(table[1]["accuracy"]) == ranks["family"]["accuracy"]


def test_without_a_taxonomy_there_are_no_ranks(evaluate):
    _, metrics, out = evaluate()
    assert metrics["ranks"] == [] and rows(out / "per_rank.csv") == []


def test_another_classifier_stands_beside_the_model(evaluate, world, taxonomy, tmp_path):
    reads = list(read_records(world.test))
    taxids = [100 + int(read.header.split("|")[1]) for read in reads]
    perfect = tmp_path / "perfect.kraken"
    perfect.write_text("".join(f"C\t{r.id}\t{t}\t100\tx\n" for r, t in zip(reads, taxids, strict=True)))
    other = tmp_path / "other.kraken"
    lines = [f"C\t{read.id}\t{7 if taxid == 100 else taxid}\t100\n" for read, taxid in zip(reads, taxids, strict=True)]
    lines[0] = f"C\t{reads[0].id}\t1000\t100\n"  # a strain of the right species
    lines[1] = f"C\t{reads[1].id}\t10\t100\n"  # its family
    lines[2] = f"U\t{reads[2].id}\t0\t100\n"
    lines[3] = f"C\t{reads[3].id}\t101\t100\n"  # wrong species, right family
    other.write_text("".join(reversed(lines[:-1])))  # one is missing
    done, metrics, out = evaluate("--taxonomy", taxonomy, "--compare", perfect, "--compare", f"Kraken 2={other}")
    best, kraken = metrics["compared"]
    assert (best["name"], best["open"]["f1"], best["missing"]) == ("perfect", 1.0, 0)
    assert all(one["accuracy"] == 1 and one["profile_l1"] == 0 for one in best["ranks"])
    assert kraken["name"] == "Kraken 2"
    found = kraken["open"]
    assert (found["correct"], found["vague"], found["wrong"], found["unclassified"]) == (44, 1, 1, 2)
    at = {one["rank"]: one for one in kraken["ranks"]}
    assert at["species"]["correct"] == 44 and at["family"]["correct"] == 46
    assert "Kraken 2: 1 of 48 reads are not in" in done.err
    assert {row["classifier"] for row in rows(out / "per_rank.csv")} == {"this model", "perfect", "Kraken 2"}
    assert "Kraken 2" in (out / "report.html").read_text()


def test_the_models_own_calls_as_another_classifiers_earn_the_same(trained, world, mgc, evaluate, taxonomy, tmp_path):
    options = ("--confidence", 0.8, "--taxonomy", taxonomy)
    own = tmp_path / "own.kraken"
    done = mgc("predict", "--ckpt", trained, "--input", world.test, "--output", own, *options)
    assert done.code == 0, done.err
    _, metrics, _ = evaluate(*options, "--compare", own)
    (other,) = metrics["compared"]
    assert other["missing"] == other["extra"] == 0
    named = ("correct", "vague", "wrong", "unclassified", "f1")
    assert {name: other["open"][name] for name in named} == {name: metrics["open"][name] for name in named}
    for theirs, ours in zip(other["ranks"], metrics["ranks"], strict=True):
        assert {k: v for k, v in theirs.items() if not k.startswith("estimated_")} == {
            k: v for k, v in ours.items() if not k.startswith("estimated_")
        }


def labelled(path: Path, reads: list[tuple[int, str, str]], quality: str | None = None) -> Path:
    """Of class, name and bases; FASTQ with one quality for all bases, or FASTA."""
    with open(path, "w") as out:
        for class_id, name, bases in reads:
            header = f"lbl|{class_id}|{100 + class_id}|{len(bases)}|{name}"
            out.write(
                f">{header}\n{bases}\n" if quality is None else f"@{header}\n{bases}\n+\n{quality * len(bases)}\n"
            )
    return path


def some_reads(seed: int, lengths: list[int]) -> list[tuple[int, str]]:
    rng = random.Random(seed)
    shares = list(GC_SHARES.values())
    return [(place % 3, random_read(rng, shares[place % 3], length)) for place, length in enumerate(lengths)]


def test_reads_are_told_apart_by_length_error_rate_and_strand(evaluate, tmp_path):
    reads = [
        (class_id, f"g:r:1-{len(bases)}:{'+-'[place % 2]}:{place % 3}", bases)
        for place, (class_id, bases) in enumerate(some_reads(11, [60] * 12 + [120] * 18))
    ]
    _, metrics, out = evaluate("--closed-set", reads=labelled(tmp_path / "reads.fa", reads))
    groups = metrics["groups"]
    assert list(groups) == ["length", "error rate", "strand"]
    assert [(row["name"], row["reads"]) for row in groups["length"]] == [("50 to 74 bp", 12), ("100 to 149 bp", 18)]
    assert [(row["name"], row["reads"]) for row in groups["strand"]] == [("+", 15), ("-", 15)]
    # 0, 1 or 2 errors in 60 or 120 bases.
    assert [(row["name"], row["reads"]) for row in groups["error rate"]] == [
        *(("none", 10), ("0.5% to 1.0%", 6), ("1.0% to 2.0%", 10), ("2.0% to 5.0%", 4)),
    ]
    calls = [row["call"] for row in rows(out / "predictions.csv")]
    right = [NAMES[class_id] == call for (class_id, _, _), call in zip(reads, calls, strict=True)]
    for name, kept in (("+", right[0::2]), ("-", right[1::2])):
        row = next(row for row in groups["strand"] if row["name"] == name)
        assert row["correct"] == sum(kept) and row["accuracy"] == row["sensitivity"] == pytest.approx(sum(kept) / 15)
    table = rows(out / "groups.csv")
    assert [row["kind"] for row in table] == ["length"] * 2 + ["error rate"] * 4 + ["strand"] * 2


def test_error_rates_come_from_qualities_where_there_are_some(evaluate, tmp_path):
    reads = [(class_id, f"read{place}", bases) for place, (class_id, bases) in enumerate(some_reads(12, [80] * 6))]
    _, metrics, _ = evaluate(reads=labelled(tmp_path / "reads.fq", reads, quality="5"))  # one in a hundred
    assert [(row["name"], row["reads"]) for row in metrics["groups"]["error rate"]] == [("1.0% to 2.0%", 6)]
    assert "strand" not in metrics["groups"]


def test_every_read_reversed_too(evaluate, tmp_path):
    reads = [(class_id, f"read{place}", bases) for place, (class_id, bases) in enumerate(some_reads(13, [40] * 30))]
    turned = [(class_id, name, reverse_complement(bases)) for class_id, name, bases in reads]
    options = ("--confidence", 0.7)
    _, both, _ = evaluate(*options, "--both-strands", reads=labelled(tmp_path / "reads.fa", reads), name="both")
    _, other, _ = evaluate(*options, reads=labelled(tmp_path / "turned.fa", turned), name="turned")
    forward, backward = both["groups"]["strand"]
    assert (forward["name"], backward["name"]) == ("as in the file", "reverse complement")
    assert (forward["called"], forward["accuracy"]) == (both["open"]["called"], both["accuracy"])
    assert (backward["called"], backward["correct"]) == (other["open"]["called"], other["open"]["correct"])
    assert backward["accuracy"] == other["accuracy"]
    assert both["reads"] == 30


def test_pairs_get_one_call_each(trained, world, mgc, evaluate, tmp_path):
    reads = some_reads(14, [60] * 40)
    mates = [[(c, f"pair{n}/{mate}", bases) for n, (c, bases) in enumerate(reads)] for mate in (1, 2)]
    mates[1] = [(c, name, reverse_complement(bases)) for c, name, bases in mates[1]]
    first, second = (labelled(tmp_path / f"R{mate + 1}.fa", mates[mate]) for mate in (0, 1))
    both = [read for pair in zip(*mates, strict=True) for read in pair]
    other = tmp_path / "k2.kraken"
    other.write_text("".join(f"C\tlbl|{c}|{100 + c}|60|pair{n}\t{100 + c}\t60|60\n" for n, (c, _) in enumerate(reads)))
    _, metrics, out = evaluate("--input2", second, "--compare", other, reads=first, name="two")
    _, mixed, _ = evaluate("--interleaved", reads=labelled(tmp_path / "both.fa", both), name="mixed")
    assert metrics["reads"] == metrics["open"]["reads"] == len(rows(out / "predictions.csv")) == 40
    assert {name: mixed[name] for name in CLOSED_SET} == {name: metrics[name] for name in CLOSED_SET}
    assert [(row["name"], row["reads"]) for row in metrics["groups"]["length"]] == [("100 to 149 bp", 40)]
    assert metrics["compared"][0]["open"]["correct"] == 40 and metrics["compared"][0]["missing"] == 0
    predicted = tmp_path / "calls.csv"
    mgc("predict", "--ckpt", trained, "--input", first, "--input2", second, "--output", predicted)
    assert predicted.read_bytes() == (out / "predictions.csv").read_bytes()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda mates: mates[:-1], "mates of different counts"),
        (lambda mates: [*mates[:3], (mates[3][0], "stray/2", mates[3][2]), *mates[4:]], "record 4"),
        (lambda mates: [((mates[0][0] + 1) % 3, *mates[0][1:]), *mates[1:]], "are no mates|of two classes"),
    ],
)
def test_mates_that_do_not_belong_together_are_refused(trained, mgc, tmp_path, change, fault):
    reads = some_reads(15, [60] * 6)
    first = labelled(tmp_path / "R1.fa", [(c, f"pair{n}/1", bases) for n, (c, bases) in enumerate(reads)])
    second = labelled(tmp_path / "R2.fa", change([(c, f"pair{n}/2", bases) for n, (c, bases) in enumerate(reads)]))
    options = ("--input", first, "--input2", second, "--output-dir", tmp_path / "out")
    done = mgc("evaluate", "--ckpt", trained, *options)
    assert done.code == 1
    assert re.search(fault, done.err), done.err
    assert not (tmp_path / "out" / "predictions.csv").exists()


def test_reads_without_a_known_base_are_told_and_in_no_figure_of_the_likeliest(evaluate, world, tmp_path):
    reads = tmp_path / "reads.fa"
    reads.write_text(world.test.read_text() + ">lbl|0|100|40|blank\n" + "N" * 40 + "\n")
    done, metrics, _ = evaluate(reads=reads)
    assert metrics["reads"] == 48 and metrics["open"]["reads"] == 49
    assert metrics["open"]["unclassified_reasons"]["no bases"] == 1
    assert "1 reads without a known base" in done.err


def test_auroc_is_left_out_where_it_would_fill_the_memory(evaluate, monkeypatch):
    _, whole, _ = evaluate()
    monkeypatch.setattr(evaluation_tally, "AUROC_VALUES", 100)
    _, small, _ = evaluate(name="small")
    assert small["auroc"] is None and "more than 100" in small["auroc_undefined"]
    assert {name: small[name] for name in CLOSED_SET[:6]} == {name: whole[name] for name in CLOSED_SET[:6]}


def test_blocks_do_not_change_the_figures(evaluate, monkeypatch):
    from metagene_classifier.prediction import evaluation

    _, whole, _ = evaluate("--confidence", 0.8)
    monkeypatch.setattr(evaluation, "READS_PER_BLOCK", 7)
    _, pieces, _ = evaluate("--confidence", 0.8, name="pieces")
    for name in ("accuracy", "open", "groups"):
        assert pieces[name] == whole[name]
    assert pieces["loss"] == pytest.approx(whole["loss"], rel=1e-5)


def test_evaluate_refuses_or_skips_classes_that_the_model_does_not_have(trained, world, mgc, tmp_path):
    reads = tmp_path / "more.fa"
    reads.write_text(world.test.read_text() + ">lbl|77|9|20|stranger\nACGTACGTACGTACGTACGT\n")
    refused = mgc("evaluate", "--ckpt", trained, "--input", reads, "--output-dir", tmp_path / "a")
    assert refused.code == 1 and "77 (1)" in refused.err
    assert not (tmp_path / "a" / "predictions.csv").exists()
    skipped = mgc("evaluate", "--ckpt", trained, "--input", reads, "--output-dir", tmp_path / "b", "--skip-unknown")
    assert skipped.code == 0 and "reads\t48" in skipped.out


def test_options_that_cannot_work_are_refused_in_a_line(trained, world, mgc, tmp_path):
    other = tmp_path / "out" / "predictions.csv"
    other.parent.mkdir()
    other.write_text("C\tread\t5\n")
    report = tmp_path / "report.kreport"
    report.write_text("100.00\t5\t5\tR\t1\troot\n")
    one = ("--input", world.test)
    cases = {
        (*one, "--compare", tmp_path / "nowhere"): "no such file",
        (*one, "--compare", report): "not Kraken's output",
        (*one, "--compare", other, "--compare", f"predictions={other}"): "both called predictions",
        (*one, "--compare", other): "would overwrite the input",
        (*one, "--both-strands", "--strand", "average"): "--strand single",
        (*one, *one, "--input2", world.val): "pairs come from one --input",
        ("--split", "test", "--interleaved"): "pairs come from one --input",
        (*one, "--input2", world.val, "--interleaved"): "give one of them",
        (*one, "--confidence", 0.5, "--closed-set"): "give one of them",
        (*one, "--taxonomy", tmp_path / "nowhere"): "no such folder",
    }
    for options, fault in cases.items():
        done = mgc("evaluate", "--ckpt", trained, "--output-dir", tmp_path / "out", *options)
        assert done.code in (1, 2) and fault in done.err, (options, done.err)
        assert not (tmp_path / "out" / "metrics.json").exists()


def test_taxa_are_left_out_when_asked_for(evaluate, mgc, trained, tmp_path):
    """The figures themselves are tested where they are made."""
    _, metrics, _ = evaluate("--open-set", name="open")
    scores = metrics["open_set"]
    assert {"probability", "energy"} <= set(scores)
    for one in scores.values():
        assert 0 <= one["auroc"] <= 1 and 0 <= one["false_calls_at_95"] <= 1
        assert sorted(label for fold in one["folds"] for label in fold["left_out"]) == sorted(NAMES)
    assert metrics["open"] == evaluate()[1]["open"]
    stream = ("--input", "-", "--output-dir", tmp_path / "b", "--open-set")
    refused = mgc("evaluate", "--ckpt", trained, *stream)
    assert refused.code == 2 and "standard input" in refused.err
