"""Learning from both strands: which tokens are learned from, and that it is one run however it is cut."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.stores import store_of
from tests.training.sharded_runs import run

from metagene_classifier.batching.framing import framing_for
from metagene_classifier.batching.micro_batches import split_into_micro_batches
from metagene_classifier.config_file import load_config
from metagene_classifier.errors import ConfigError
from metagene_classifier.hub import RESOURCES
from metagene_classifier.memory.budget import Lengths
from metagene_classifier.memory.cards import find_card
from metagene_classifier.memory.device import memory_of_card
from metagene_classifier.memory.fit import CannotFit, choose_fit
from metagene_classifier.memory.from_config import fit_request
from metagene_classifier.memory.shape import encoder_shape
from metagene_classifier.memory.ways import StepFacts
from metagene_classifier.model.out_of_memory import DeviceMemoryError, TokenBudget
from metagene_classifier.reads.strand import reverse_complement
from metagene_classifier.tokenization.huggingface import load_huggingface
from metagene_classifier.training.data import load_training_data
from metagene_classifier.training.parallel import AllAlike
from metagene_classifier.training.steps import (
    IGNORED,
    MicroBatchTooLarge,
    Objective,
    backward_micro_batches,
    balanced_weights,
    disagreement,
    micro_batches_of,
    read_keys,
    step_segments,
)
from metagene_classifier.training.strands import BothStrands, are_turned, check_strands, other_strands

TOKENIZER = load_huggingface(RESOURCES / "tokenizers" / "metagene-1", "metagene-1")
# Reads of up to 90 tokens: of those that do not fit, each epoch trains one window.
FRAMING = framing_for(TOKENIZER, 48, 0.125)
CPU = torch.device("cpu")
CLASSES = 5
READS = 24
ROOT = Path(__file__).resolve().parents[2]
DNA = st.text("ACGTN", max_size=120)


def sequences() -> list[str]:
    random = np.random.default_rng(0)
    return ["".join(random.choice(list("ACGT"), random.integers(1, 360))) for _ in range(READS)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    reads = [(tokens, number % CLASSES) for number, tokens in enumerate(TOKENIZER.encode_batch(sequences()))]
    return store_of(tmp_path_factory.mktemp("stores") / "store", reads, classes=CLASSES, shards=3)


@pytest.fixture(scope="module")
def accelerator():
    from accelerate import Accelerator

    return Accelerator(cpu=True, mixed_precision="no", device_placement=False)


def strands(how: str) -> BothStrands:
    return BothStrands(how, TOKENIZER)


def bases(segment: np.ndarray) -> str:
    """Of a segment with its special tokens."""
    assert (segment[0], segment[-1]) == (3, 4)
    return TOKENIZER.decode(segment[1:-1])


# The tokens


@settings(deadline=None)
@given(st.lists(DNA, max_size=6))
def test_the_other_strands_tokens_are_those_of_the_reverse_complement(reads):
    found = other_strands(TOKENIZER, TOKENIZER.encode_batch(reads))
    expected = TOKENIZER.encode_batch([reverse_complement(read) for read in reads])
    assert [ids.tolist() for ids in found] == [ids.tolist() for ids in expected]


def test_augment_takes_each_read_or_its_reverse_complement(store):
    reads, keys = np.arange(READS), read_keys(np.arange(READS), seed=7, epoch=0)
    plain = step_segments(store, reads, keys, FRAMING)
    drawn = step_segments(store, reads, keys, FRAMING, strands("augment"))
    turned = are_turned(keys)
    assert 0 < turned.sum() < READS
    assert (drawn.keys.tolist(), drawn.classes.tolist()) == (plain.keys.tolist(), plain.classes.tolist())
    for one, other, is_turned in zip(plain.segments, drawn.segments, turned, strict=True):
        read = bases(one)
        if not is_turned:
            assert other.tolist() == one.tolist()
        else:
            assert reverse_complement(read).startswith(bases(other))
            assert len(other) == FRAMING.max_length or bases(other) == reverse_complement(read)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 100), data=st.data())
def test_the_strand_of_a_place_is_the_same_on_any_rank_and_after_any_stop(store, seed, epoch, data):
    """It follows from the place's key, whatever reads are with it."""
    keys = read_keys(np.arange(READS), seed=seed, epoch=epoch)
    whole = step_segments(store, np.arange(READS), keys, FRAMING, strands("augment"))
    some = np.array(data.draw(st.lists(st.integers(0, READS - 1), max_size=8, unique=True)), np.int64)
    part = step_segments(store, some, keys[some], FRAMING, strands("augment"))
    assert [segment.tolist() for segment in part.segments] == [whole.segments[read].tolist() for read in some]


def test_both_strands_are_drawn_alike_in_every_epoch_and_for_every_window():
    drawn = [are_turned(read_keys(np.arange(20_000), seed=7, epoch=epoch)) for epoch in range(3)]
    for turned in drawn:
        assert abs(turned.mean() - 0.5) < 0.02
    assert abs((drawn[0] == drawn[1]).mean() - 0.5) < 0.02
    keys = read_keys(np.arange(20_000), seed=7, epoch=0)
    for windows in (2, 3, 4):
        for window in range(windows):
            assert abs(are_turned(keys[keys % windows == window]).mean() - 0.5) < 0.03


def test_consistency_takes_both_strands_of_the_same_window_side_by_side(store):
    reads, keys = np.arange(READS), read_keys(np.arange(READS), seed=7, epoch=1)
    plain = step_segments(store, reads, keys, FRAMING)
    both = step_segments(store, reads, keys, FRAMING, strands("consistency"))
    assert [segment.tolist() for segment in both.segments[::2]] == [segment.tolist() for segment in plain.segments]
    for one, other in zip(both.segments[::2], both.segments[1::2], strict=True):
        assert reverse_complement(bases(one)).startswith(bases(other))
        assert len(other) == FRAMING.max_length or bases(other) == reverse_complement(bases(one))
    assert both.keys.tolist() == [key for key in keys.tolist() for _ in (1, 2)]
    assert both.classes.tolist() == [number % CLASSES for number in range(READS) for _ in (1, 2)]
    assert max(store.lengths_of(reads)) > FRAMING.capacity  # some were windows


@pytest.mark.parametrize("how", ["augment", "consistency"])
def test_a_window_whose_other_strand_has_more_tokens_is_cut_to_what_fits(how, tmp_path):
    """The merges of one strand are not those of the other."""
    read = next(
        read
        for read in ("".join(np.random.default_rng(n).choice(list("ACGT"), 187)) for n in range(1000))
        if len(TOKENIZER.encode_batch([read])[0]) <= FRAMING.capacity
        and len(TOKENIZER.encode_batch([reverse_complement(read)])[0]) > FRAMING.capacity
    )
    store = store_of(tmp_path / "store", [(TOKENIZER.encode_batch([read])[0], 0)])
    keys = read_keys(np.arange(50), seed=0, epoch=0)
    keys = keys[are_turned(keys)][:1]
    step = step_segments(store, np.zeros(1, np.int64), keys, FRAMING, strands(how))
    assert len(step.segments[-1]) == FRAMING.max_length
    assert reverse_complement(read).startswith(bases(step.segments[-1]))


# Micro-batches


@pytest.mark.parametrize("layout", ["packed", "buckets", "padded"])
@settings(deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 512), st.integers(1, 512)), max_size=40),
    max_tokens=st.integers(1, 5000),
)
def test_two_strands_are_never_parted_and_the_budget_is_kept(layout, lengths, max_tokens):
    flat = np.array(lengths, np.int64).ravel()
    batches = split_into_micro_batches(flat, max_tokens=max_tokens, layout=layout, padded_length=512, together=2)
    assert sorted(index for members in batches for index in members.tolist()) == list(range(len(flat)))
    for members in batches:
        assert (members[::2] % 2 == 0).all() and (members[1::2] == members[::2] + 1).all()
        computed = {
            "packed": int(flat[members].sum()),
            "buckets": len(members) * int(flat[members].max()),
            "padded": len(members) * 512,
        }[layout]
        assert len(members) == 2 or computed <= max_tokens


def gradient_of(store, accelerator, classifier, how, layout, max_tokens, objective, reads=None):
    """The loss and all gradients of one step, as one vector each."""
    chosen = np.arange(READS) if reads is None else np.asarray(reads)
    step = step_segments(store, chosen, read_keys(chosen, seed=7, epoch=0), FRAMING, strands(how))
    parts = micro_batches_of(step, FRAMING, max_tokens=max_tokens, layout=layout)
    classifier.train()
    classifier.zero_grad()
    divisor = objective.weight_of(store.classes_of(chosen))
    loss = backward_micro_batches(classifier, parts, objective, divisor=divisor, device=CPU, accelerator=accelerator)
    learning = [weight for weight in classifier.parameters() if weight.requires_grad]
    return float(loss) / divisor, torch.cat([weight.grad.flatten() for weight in learning])


def assert_same(found, expected):
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-3, atol=1e-5 * float(expected[1].abs().max()))


@pytest.mark.parametrize("how", ["augment", "consistency"])
def test_gradient_is_the_same_for_every_layout_and_token_budget(classifier_of, llama_encoder, store, accelerator, how):
    classifier = classifier_of(llama_encoder, lora=("q_proj", "v_proj"), dropout=0.1)
    weighted = balanced_weights(np.array([1, 2, 3, 4, 5]))
    objective = Objective(weighted, 0.1, 0.7 if how == "consistency" else None)
    expected = gradient_of(store, accelerator, classifier, how, "padded", 1, objective)

    @settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
    @given(layout=st.sampled_from(["packed", "buckets", "padded"]), max_tokens=st.integers(1, 3000))
    def check(layout, max_tokens):
        assert_same(gradient_of(store, accelerator, classifier, how, layout, max_tokens, objective), expected)

    check()


def test_the_gradient_of_a_step_is_the_mean_of_its_halves(classifier_of, llama_encoder, store, accelerator):
    """Ranks and accumulation share a step's reads out; strands and dropout must not depend on who gets which."""
    classifier = classifier_of(llama_encoder, lora=("q_proj", "v_proj"), dropout=0.1)
    objective = Objective(None, 0.0, 1.0)
    halves = [
        gradient_of(store, accelerator, classifier, "consistency", "buckets", 300, objective, range(start, READS, 2))
        for start in (0, 1)
    ]
    mean = (halves[0][0] + halves[1][0]) / 2, (halves[0][1] + halves[1][1]) / 2
    assert_same(gradient_of(store, accelerator, classifier, "consistency", "packed", 900, objective), mean)


def test_a_read_is_too_large_only_with_both_its_strands_and_others_are_parted(store):
    step = step_segments(store, np.arange(4), np.arange(4), FRAMING, strands("consistency"))

    def failure(max_tokens: int) -> MicroBatchTooLarge:
        parts = micro_batches_of(step, FRAMING, max_tokens=max_tokens, layout="padded")
        with pytest.raises(MicroBatchTooLarge) as caught:
            backward_micro_batches(
                full, parts, Objective(None, 0.0, 1.0), divisor=4, device=CPU, accelerator=SimpleNamespace()
            )
        return caught.value

    def full(batch):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    several, one = failure(10_000), failure(1)
    assert (several.tokens, several.segments) == (4 * 2 * 48, 4)
    assert (one.tokens, one.segments) == (2 * 48, 1)
    budget = TokenBudget(10_000, lambda line: None)
    budget.shrink(several.tokens, several.segments)
    assert budget.tokens == 4 * 48
    with pytest.raises(DeviceMemoryError, match="one read of 96 tokens does not fit"):
        budget.shrink(one.tokens, one.segments)


# The loss


def test_the_strands_disagreement_is_the_mean_of_both_directions_of_kullback_and_leibler():
    one, other = torch.tensor([[0.5, 0.5], [0.2, 0.8]]).log(), torch.tensor([[0.9, 0.1], [0.2, 0.8]]).log() + 3.0
    # 1/2 [(0.5 - 0.9) ln(0.5/0.9) + (0.5 - 0.1) ln(0.5/0.1)] = 0.2 ln 9
    torch.testing.assert_close(disagreement(one, other), torch.tensor([0.2 * math.log(9), 0.0]), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(disagreement(one, other), disagreement(other, one))


def test_the_loss_of_a_read_is_the_mean_of_its_strands_and_their_weighted_disagreement():
    scores = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.25, 0.75], [0.25, 0.75]]).log()
    classes = torch.tensor([0, 0, 1, 1])
    of_first = -(math.log(0.5) + math.log(0.9)) / 2 + 3.0 * 0.2 * math.log(9)
    of_second = -math.log(0.75)
    assert float(Objective(None, 0.0, 3.0).summed(scores, classes)) == pytest.approx(of_first + of_second)
    weighted = Objective(torch.tensor([2.0, 0.5]), 0.0, 3.0)
    assert float(weighted.summed(scores, classes)) == pytest.approx(2 * of_first + of_second / 2)
    assert weighted.weight_of(np.array([0, 1], np.int32)) == 2.5  # a read counts once, on two strands


def test_both_strands_learn_from_their_disagreement():
    scores = torch.tensor([[0.0, 0.0], [2.0, 0.0]], requires_grad=True)
    disagreement(scores[::2], scores[1::2]).sum().backward()
    assert (scores.grad != 0).all()
    torch.testing.assert_close(scores.grad.sum(dim=1), torch.zeros(2))


@pytest.mark.parametrize("weights", [None, torch.tensor([2.0, 0.5, 1.0, 1.0, 1.0])])
def test_dummies_of_ranks_without_reads_add_nothing(weights, classifier_of, llama_encoder, accelerator):
    classifier = classifier_of(llama_encoder, lora=("q_proj",), dropout=0.1).train()
    objective = Objective(weights, 0.1, 1.0)
    dummy = AllAlike(classifier, FRAMING, "packed", None, objective.strands)._dummy()
    parts = [(dummy, torch.full((dummy.segments,), IGNORED))]
    loss = backward_micro_batches(classifier, parts, objective, divisor=1, device=CPU, accelerator=accelerator)
    assert float(loss) == 0
    gradients = [weight.grad for weight in classifier.parameters() if weight.requires_grad]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


# Whole runs


@pytest.fixture(scope="module")
def settings_of(llama_encoder, labelled_files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("strands")

    def made(name: str, how: str, ranks: int = 1, **changes: Any) -> dict[str, Any]:
        return {
            "device": "cpu",
            "dataset.train_fasta": str(labelled_files.train_fasta),
            "dataset.val_fasta": str(labelled_files.val_fasta),
            "dataset.mapping_tsv": str(labelled_files.mapping_tsv),
            "model.encoder_path": str(llama_encoder),
            "tokenizer.name_or_path": str(llama_encoder),
            "tokenizer.max_length": 32,
            "training.output_dir": str(folder / name),
            "training.precision": "32",
            "dataset.max_reads": 43,
            "training.batch_size": 14 // ranks,
            "training.max_epochs": 1,
            "training.max_tokens": 100,
            "training.reverse_complement": how,
            "optimizer.lr": 1e-3,
            "scheduler.name": "constant",
            "scheduler.warmup_steps": 0,
            "calling.calibrate": False,
            "logging.log_interval": 1,
            "logging.tensorboard": False,
            **changes,
        }

    return made


def losses(settings: dict[str, Any]) -> list[float]:
    """Of all steps, and the last one of the validation reads, which every stop scores in passing."""
    lines = (Path(settings["training.output_dir"]) / "history.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    of_steps = [row["loss"] for row in rows if "loss" in row]
    return of_steps + [row["eval_loss"] for row in rows if "eval_loss" in row][-1:]


@pytest.fixture(scope="module")
def alone(settings_of) -> dict[str, list[float]]:
    found = {}
    for how in ("none", "augment", "consistency"):
        settings = settings_of(f"{how} alone", how)
        run(dict(settings))
        found[how] = losses(settings)
    return found


def test_each_way_is_another_run(alone):
    """43 reads in steps of 14: four steps and a validation."""
    assert {len(found) for found in alone.values()} == {5}
    first = [found[0] for found in alone.values()]
    assert len(set(first)) == 3


@pytest.mark.parametrize("how", ["augment", "consistency"])
def test_resumed_in_the_middle_of_an_epoch_it_is_the_run_that_never_stopped(how, settings_of, alone):
    settings = settings_of(f"{how} stopped", how)
    run(settings | {"training.max_steps": 2})
    run(settings | {"resume": True})
    assert losses(settings) == alone[how]


def test_two_ranks_learn_what_one_learns(settings_of, alone, tmp_path):
    """The last step has one read: the other rank runs dummies."""
    shared = {
        ("augment", "ddp"): settings_of("augment ddp", "augment", 2, **{"training.parallel": "ddp"}),
        ("consistency", "ddp"): settings_of("consistency ddp", "consistency", 2, **{"training.parallel": "ddp"}),
        ("consistency", "fsdp"): settings_of("consistency fsdp", "consistency", 2, **{"training.parallel": "fsdp"}),
    }
    cases = tmp_path / "cases.json"
    cases.write_text(json.dumps(list(shared.values())))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    program = ROOT / "tests" / "training" / "sharded_runs.py"
    done = subprocess.run([*launcher, program, cases], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    for (how, _), ran in shared.items():
        assert losses(ran) == pytest.approx(alone[how], rel=1e-5)


@pytest.mark.parametrize("how", ["augment", "consistency"])
def test_a_head_alone_learns_the_same_from_stored_embeddings(how, settings_of, monkeypatch, tmp_path):
    """Both strands of every window are embedded once."""
    monkeypatch.setenv("MGC_CACHE", str(tmp_path / "cache"))
    once = settings_of(f"{how} head", how, **{"model.freeze": "encoder"})
    run(dict(once))
    told = (Path(once["training.output_dir"]).parent / "told.txt").read_text()
    assert "reverse-complemented training: 43 reads embedded" in told
    monkeypatch.setenv("MGC_NO_CACHE", "1")
    every_step = settings_of(f"{how} head, encoder in every step", how, **{"model.freeze": "encoder"})
    run(dict(every_step))
    assert losses(once) == pytest.approx(losses(every_step), rel=1e-5)


# What is planned, and what is refused


METAGENE = encoder_shape(
    json.loads((RESOURCES / "encoders" / "metagene-1" / "config.json").read_text()), name="metagene-1"
)


def plan(memory_gib: float, **changes: Any):
    config = load_config(None, {"training.max_tokens": "auto", "model.quantization": "nf4", **changes})
    memory = memory_of_card(find_card("4090"), limit=f"{memory_gib}GiB")
    return choose_fit(METAGENE, request=fit_request(config), facts=StepFacts(), memory=memory, lengths=Lengths(512, 40))


def test_the_least_micro_batch_holds_both_strands_of_the_longest_read():
    both = {"training.reverse_complement": "consistency"}
    with pytest.raises(CannotFit, match=r"for 2 x 512 tokens.*no way fits$"):
        plan(3.9, **both)
    tight = next(gib for gib in np.arange(4, 12, 0.1).round(1) if _fits(gib))
    assert plan(tight).max_tokens < 1024
    with_both = next(gib for gib in np.arange(tight, 12, 0.1).round(1) if _fits(gib, **both))
    assert with_both > tight
    with pytest.raises(CannotFit, match=r"no way fits; one strand at a time .* fits$"):
        plan(tight, **both)
    assert plan(with_both, **both).max_tokens >= 1024
    assert "on both strands" in plan(20, **both).line()
    assert _fits(tight, **{"training.reverse_complement": "augment"})


def _fits(gib: float, **changes: Any) -> bool:
    try:
        plan(gib, **changes)
    except ConfigError:
        return False
    return True


def test_an_encoder_that_runs_once_has_no_pairs_in_memory():
    for freeze, strands_at_once in (("encoder", 1), ("none", 2)):
        config = load_config(None, {"training.reverse_complement": "consistency", "model.freeze": freeze})
        assert fit_request(config).strands == strands_at_once


def test_a_tokenizer_that_cannot_be_decoded_is_refused_before_any_read_is_prepared(
    llama_encoder, labelled_files, tmp_path
):
    folder = tmp_path / "lossy"
    shutil.copytree(llama_encoder, folder)
    described = json.loads((folder / "tokenizer.json").read_text())
    described["normalizer"] = {"type": "Replace", "pattern": {"String": "N"}, "content": "A"}
    (folder / "tokenizer.json").write_text(json.dumps(described))
    values = {
        "dataset.train_fasta": "not-looked-at.fa",
        "dataset.mapping_tsv": str(labelled_files.mapping_tsv),
        "model.encoder_path": str(folder),
        "tokenizer.name_or_path": str(folder),
    }
    for how in ("augment", "consistency"):
        config = load_config(None, {**values, "training.reverse_complement": how})
        line = rf"^training.reverse_complement: {how}: the tokens of .*lossy cannot be turned back into bases \(N does"
        with pytest.raises(ConfigError, match=line):
            load_training_data(config, lambda line: None)


def test_without_strands_no_tokenizer_is_refused():
    check_strands("none", SimpleNamespace())
