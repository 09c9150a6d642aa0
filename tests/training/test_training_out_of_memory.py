"""Memory that runs out during a step: the same step goes on with less at once, and gives the same model."""

import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from metagene_classifier.batching.framing import Framing
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.out_of_memory import DeviceMemoryError, TokenBudget, is_out_of_memory
from metagene_classifier.model.scoring import score_reads
from metagene_classifier.training.exchange import agree_on_failure
from metagene_classifier.training.loop import Loop
from metagene_classifier.training.steps import (
    MicroBatchTooLarge,
    Objective,
    StepReads,
    backward_micro_batches,
    micro_batches_of,
)

CPU = torch.device("cpu")
FRAMING = Framing(prefix=(3,), suffix=(4,), pad_id=0, max_length=48, overlap=0.125)
SEGMENTS = [np.random.default_rng(length).integers(6, 1024, length) for length in (40, 30, 20, 35, 25, 40, 10, 12)]
STEP = StepReads(SEGMENTS, np.arange(8), np.arange(8, dtype=np.int32) % 5)


class Card(ReadClassifier):
    """A classifier on a card that holds so many tokens of a micro-batch."""

    holds = 10**9
    fails_in_backward = False

    def forward(self, batch):
        if batch.ids.numel() <= self.holds:
            return super().forward(batch)
        if not self.fails_in_backward:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        scores = super().forward(batch)
        scores.register_hook(self._run_out)
        return scores

    @staticmethod
    def _run_out(_):
        raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.fixture
def card(classifier_of, llama_encoder):
    made = classifier_of(llama_encoder, lora=("q_proj", "v_proj"), dropout=0.1)
    made.__class__ = Card
    return made


@pytest.fixture(scope="module")
def accelerator():
    from accelerate import Accelerator

    return Accelerator(cpu=True, mixed_precision="no", device_placement=False)


def test_a_micro_batch_that_is_too_large_says_how_large_it_was(card, accelerator):
    card.train()
    card.holds = 100
    parts = micro_batches_of(STEP, FRAMING, max_tokens=1000, layout="packed")
    with pytest.raises(MicroBatchTooLarge) as caught:
        backward_micro_batches(card, parts, Objective(None, 0.0), divisor=8, device=CPU, accelerator=accelerator)
    assert (caught.value.tokens, caught.value.segments) == (sum(map(len, SEGMENTS)), 8)


@pytest.mark.parametrize("in_backward", [False, True])
def test_nothing_of_a_failed_micro_batch_is_held_when_the_step_begins_again(card, accelerator, in_backward):
    card.train()
    kept = []

    def remember(_module, _inputs, output):
        kept.append(weakref.ref(output))

    card.transformer.layers[0].mlp.register_forward_hook(remember)
    if in_backward:
        card.holds, card.fails_in_backward = 100, True
    else:
        card.transformer.layers[1].mlp.register_forward_hook(lambda *_: Card._run_out(None))
    parts = micro_batches_of(STEP, FRAMING, max_tokens=150, layout="packed")
    try:
        backward_micro_batches(card, parts, Objective(None, 0.0), divisor=8, device=CPU, accelerator=accelerator)
    except MicroBatchTooLarge as error:
        failure = error
    gc.disable()  # memory that waits for the collector is not free yet
    try:
        assert failure is not None
        assert kept
        assert all(reference() is None for reference in kept)
    finally:
        gc.enable()


def test_a_retried_step_draws_the_same_random_numbers_and_starts_from_no_gradients():
    weight = torch.nn.Parameter(torch.zeros(3))
    drawn = []

    class Failing:
        budget = TokenBudget(1000)

        def add_gradients(self, reads, keys, *, divisor):
            drawn.append(torch.rand(2))
            (weight.sum() * 2).backward()
            if len(drawn) == 1:
                raise MicroBatchTooLarge(400, 10)
            return weight.sum().detach(), 7

    loop = SimpleNamespace(
        accelerator=SimpleNamespace(device=CPU, num_processes=1, process_index=0, scaler=None),
        state=SimpleNamespace(step=0),
        settings=SimpleNamespace(seed=1),
        route=Failing(),
        optimizer=torch.optim.SGD([weight]),
    )
    assert Loop._gradients(loop, np.arange(3), np.arange(3), 1.0)[1] == 7
    torch.testing.assert_close(drawn[0], drawn[1])
    assert weight.grad.tolist() == [2, 2, 2]
    assert loop.route.budget.tokens == 200


def test_the_budget_halves_what_failed_and_says_so():
    told = []
    budget = TokenBudget(65536, told.append)
    budget.shrink(5000, 40)
    assert budget.tokens == 2500
    assert told == ["out of memory on the device with 5,000 tokens at once: going on with 2,500 from the same reads"]


def test_one_read_that_does_not_fit_ends_with_the_plan_that_would():
    budget = TokenBudget(512, print, lambda tokens: f"nf4 holds {tokens}")
    with pytest.raises(DeviceMemoryError, match="one read of 512 tokens does not fit: nf4 holds 512"):
        budget.shrink(512, 1)


@pytest.mark.parametrize("layout", ["packed", "buckets"])
def test_scores_are_the_same_when_memory_runs_out_on_the_way(card, layout):
    reads = [segment[1:-1] for segment in SEGMENTS] + [np.random.default_rng(9).integers(6, 1024, 200)]
    card.eval()

    def scored(budget):
        return score_reads(card, reads, FRAMING, width=5, budget=budget, layout=layout, device=CPU)

    expected = scored(TokenBudget(10_000))
    card.holds = 60
    told = []
    budget = TokenBudget(10_000, told.append)
    np.testing.assert_allclose(scored(budget), expected, rtol=1e-4, atol=1e-5)
    assert budget.tokens <= 60 and len(told) >= 2
    told.clear()
    scored(budget)
    assert told == []
    card.holds = 45
    with pytest.raises(DeviceMemoryError, match="one read of 48 tokens"):
        scored(budget)


def test_other_faults_are_not_taken_for_a_lack_of_memory(card, accelerator):
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"))
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("CUDA out of memory."))

    def broken(batch):
        raise RuntimeError("a fault of its own")

    parts = micro_batches_of(STEP, FRAMING, max_tokens=1000, layout="packed")
    with pytest.raises(RuntimeError, match="a fault of its own"):
        backward_micro_batches(broken, parts, Objective(None, 0.0), divisor=8, device=CPU, accelerator=accelerator)
    with pytest.raises(RuntimeError, match="a fault of its own"):
        score_reads(broken, SEGMENTS, FRAMING, width=5, budget=TokenBudget(99), layout="packed", device=CPU)


def test_cudas_own_words_for_it_are_known():
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronous"))
    assert is_out_of_memory(RuntimeError("CUDA driver error: out of memory"))


def test_ranks_go_by_the_smallest_micro_batch_that_failed_on_any(monkeypatch):
    others = [[700, 9], [500, 1]]
    accelerator = SimpleNamespace(
        num_processes=3, device=CPU, gather=lambda mine: torch.cat([mine, torch.tensor(others)])
    )
    for mine in (None, MicroBatchTooLarge(600, 3)):
        agreed = agree_on_failure(mine, accelerator)
        assert agreed is not None and (agreed.tokens, agreed.segments) == (500, 1)
    others[:] = [[torch.iinfo(torch.int64).max] * 2] * 2
    assert agree_on_failure(None, accelerator) is None


def test_a_rank_without_reads_can_scale_its_gradients_back():
    """It has scaled no loss, and torch's scaler would refuse."""
    scaler = torch.amp.GradScaler("cpu")
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([weight])

    class Nothing:
        budget = TokenBudget(1000)

        def add_gradients(self, reads, keys, *, divisor):
            return torch.zeros(()), 0

    loop = SimpleNamespace(
        accelerator=SimpleNamespace(device=CPU, num_processes=1, process_index=0, scaler=scaler),
        state=SimpleNamespace(step=0),
        settings=SimpleNamespace(seed=1),
        route=Nothing(),
        optimizer=optimizer,
    )
    Loop._gradients(loop, np.arange(0), np.arange(0), 1.0)
    weight.grad = torch.ones(3) * scaler.get_scale()  # what the other ranks gave
    scaler.unscale_(optimizer)
    assert weight.grad.tolist() == [1, 1, 1]
