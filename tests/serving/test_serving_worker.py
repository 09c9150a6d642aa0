"""Requests share the model, and none of them can tell."""

import threading
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.serving.conftest import sequences

from metagene_classifier.errors import DataError
from metagene_classifier.prediction.calling import Caller
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.reads.read import Read
from metagene_classifier.serving import worker as module
from metagene_classifier.serving.limits import RefusedError
from metagene_classifier.serving.worker import Job, ModelWorker

LATER = 1e12
TEXTS = st.lists(
    st.text("ACGTNacgu-", max_size=90) | st.integers(0, 9).map(lambda n: sequences(1, 300, n)[0]), max_size=9
)
REQUESTS = st.lists(
    st.tuples(TEXTS.filter(bool), st.booleans(), st.sampled_from([0.0, 0.4, 0.6])), min_size=1, max_size=4
)


def caller_with(caller, **options):
    return Caller(caller.labels, caller.tree, caller.calibrator, replace(caller.options, **options))


def reads_of(texts):
    return [Read(f"r{number // 2}/{1 + number % 2}", text) for number, text in enumerate(texts)]


def facts(call):
    return (call.read_id, call.call, call.taxid, call.rank, call.length_bp, call.reason, call.taxon, call.hits)


@pytest.mark.parametrize("strand", ["single", "average"])
def test_calls_are_those_of_a_run_by_itself_whoever_shares_the_block(opened_model, monkeypatch, strand):
    """Blocks of a few reads here, so that requests are cut and mixed in every way."""
    monkeypatch.setattr(module, "READS_PER_BLOCK", 7)
    monkeypatch.setattr(module, "BASES_PER_BLOCK", 700)
    scorer = replace(opened_model.scorer, strand=strand, complexity=True)

    @settings(max_examples=25, deadline=None)
    @given(REQUESTS)
    def property_of(requests):
        worker = ModelWorker(scorer, max_queued=len(requests))
        jobs = []
        for texts, paired, threshold in requests:
            texts = texts * 2 if paired else texts
            caller = caller_with(opened_model.caller, paired=paired, threshold=threshold, min_complexity=0.2)
            jobs.append(Job(reads_of(texts), caller, LATER))
            worker.submit(jobs[-1])
        worker.start()
        found = [job.future.result(30) for job in jobs]
        assert worker.stop()
        for job, called in zip(jobs, found, strict=True):
            report = StreamReport()
            alone = [call for block in scorer.stream_blocks([job.reads], report) for call in job.caller.calls(block)]
            assert list(map(facts, called.calls)) == list(map(facts, alone))
            assert [call.confidence for call in called.calls] == pytest.approx(
                [call.confidence for call in alone], abs=1e-5
            )
            assert called.noticed == report
            assert called.tally.reads == len(alone)
            assert [call.reads for call in called.calls] == [call.reads for call in alone]

    property_of()


class Gate:
    """A model that waits to be let through, and remembers what came at once."""

    def __init__(self, run):
        self.run = run
        self.opened = threading.Event()
        self.came = threading.Event()
        self.segments = []

    def __call__(self, batch):
        self.segments.append(batch.segments)
        self.came.set()
        assert self.opened.wait(30)
        return self.run(batch)


@pytest.fixture
def gated(opened_model):
    gate = Gate(opened_model.scorer.run)
    return gate, replace(opened_model.scorer, run=gate)


def job_of(opened_model, count, seed=0, deadline=LATER):
    return Job(reads_of(sequences(count, 40, seed)), opened_model.caller, deadline)


def test_small_requests_go_through_the_model_together(opened_model, gated):
    gate, scorer = gated
    worker = ModelWorker(scorer, max_queued=10)
    first, *others = [job_of(opened_model, 2, seed) for seed in range(5)]
    worker.start()
    worker.submit(first)
    assert gate.came.wait(10)
    for job in others:
        worker.submit(job)
    gate.opened.set()
    assert [len(job.future.result(10).calls) for job in others] == [2] * 4
    assert gate.segments == [2, 8]
    worker.stop()


def test_a_few_reads_do_not_wait_for_all_of_a_large_request(opened_model, gated, monkeypatch):
    monkeypatch.setattr(module, "READS_PER_BLOCK", 10)
    gate, scorer = gated
    worker = ModelWorker(scorer, max_queued=10)
    large, small = job_of(opened_model, 95), job_of(opened_model, 2, 1)
    worker.submit(large)
    worker.submit(small)
    gate.opened.set()
    worker.start()
    small.future.result(10)
    done_then = len(large.reads) - large.left
    assert len(large.future.result(30).calls) == 95
    assert done_then <= 40
    worker.stop()


def test_a_full_queue_refuses_and_says_when_to_come_again(opened_model):
    worker = ModelWorker(opened_model.scorer, max_queued=2)
    worker.submit(job_of(opened_model, 1))
    worker.submit(job_of(opened_model, 1))
    with pytest.raises(RefusedError, match="2 requests wait already") as told:
        worker.submit(job_of(opened_model, 1))
    assert told.value.status == 503
    assert 1 <= told.value.retry_after_s <= 120


def test_who_gave_up_makes_room_and_is_not_scored(opened_model, gated):
    gate, scorer = gated
    gate.opened.set()
    worker = ModelWorker(scorer, max_queued=1)
    left = job_of(opened_model, 5)
    worker.submit(left)
    assert left.future.cancel()
    assert worker.waiting == 0
    stays = job_of(opened_model, 1)
    worker.submit(stays)
    worker.start()
    stays.future.result(10)
    assert gate.segments == [1]
    worker.stop()


def test_who_waited_too_long_is_refused_and_not_scored(opened_model, gated):
    gate, scorer = gated
    gate.opened.set()
    now = [0.0]
    worker = ModelWorker(scorer, max_queued=5, clock=lambda: now[0])
    late, early = job_of(opened_model, 5, deadline=10.0), job_of(opened_model, 1, deadline=30.0)
    worker.submit(late)
    worker.submit(early)
    now[0] = 10.0
    worker.start()
    with pytest.raises(RefusedError, match="in time") as told:
        late.future.result(10)
    assert told.value.status == 504
    early.future.result(10)
    assert gate.segments == [1]
    worker.stop()


def test_a_read_that_cannot_be_prepared_costs_nobody_else_a_call(opened_model):
    worker = ModelWorker(replace(opened_model.scorer, long_reads="error"), max_queued=5)
    good, bad, other = job_of(opened_model, 3), Job([Read("long", "ACGT" * 90)], opened_model.caller, LATER), None
    other = job_of(opened_model, 2, 4)
    for job in (good, bad, other):
        worker.submit(job)
    worker.start()
    with pytest.raises(DataError, match="read long has"):
        bad.future.result(10)
    assert [len(job.future.result(10).calls) for job in (good, other)] == [3, 2]
    worker.stop()


def test_a_read_over_which_the_model_breaks_costs_nobody_else_a_call(opened_model, capsys):
    def run(batch):
        if batch.lengths.max() > 25:
            raise RuntimeError("a bug")
        return opened_model.scorer.run(batch)

    worker = ModelWorker(replace(opened_model.scorer, run=run), max_queued=5)
    good, bad = job_of(opened_model, 3), Job([Read("long", "ACGT" * 35)], opened_model.caller, LATER)
    worker.submit(bad)
    worker.submit(good)
    worker.start()
    assert len(good.future.result(10).calls) == 3
    with pytest.raises(RuntimeError):
        bad.future.result(10)
    after = job_of(opened_model, 1)
    worker.submit(after)
    assert len(after.future.result(10).calls) == 1
    assert worker.works
    worker.stop()
    assert "a bug" in capsys.readouterr().err


def test_stopping_refuses_what_waits_and_what_comes(opened_model, gated):
    gate, scorer = gated
    worker = ModelWorker(scorer, max_queued=5)
    worker.start()
    in_hand, waits = job_of(opened_model, 1), job_of(opened_model, 1)
    worker.submit(in_hand)
    assert gate.came.wait(10)
    worker.submit(waits)
    threading.Timer(0.2, gate.opened.set).start()
    started = time.monotonic()
    assert worker.stop(10)
    assert time.monotonic() - started < 9
    assert len(in_hand.future.result(0).calls) == 1
    with pytest.raises(RefusedError, match="stopping"):
        waits.future.result(0)
    with pytest.raises(RefusedError, match="stopping"):
        worker.submit(job_of(opened_model, 1))
    assert not worker.works


def test_the_probabilities_of_all_classes_are_not_kept(opened_model):
    worker = ModelWorker(opened_model.scorer, max_queued=5)
    job = job_of(opened_model, 2)
    worker.submit(job)
    worker.start()
    assert [call.probabilities.size for call in job.future.result(10).calls] == [0, 0]
    worker.stop()
