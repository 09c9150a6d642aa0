"""The encoder runs once over the reads: what it gives is kept, taken again, and never mixed up."""

from collections import namedtuple
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.stores import store_of

from metagene_classifier.batching.framing import Framing
from metagene_classifier.cache import entries
from metagene_classifier.errors import EncoderError, OutputError
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.out_of_memory import TokenBudget
from metagene_classifier.model.scoring import score_reads
from metagene_classifier.store.selection import Selection
from metagene_classifier.training import embed_once as embedding
from metagene_classifier.training import embeddings
from metagene_classifier.training.embed_once import Embedder, EmbeddingSource, embed_once, forget_weights
from metagene_classifier.training.embeddings import StoredEmbeddings
from metagene_classifier.training.from_embeddings import FromEmbeddings, PooledBatch
from metagene_classifier.training.interrupts import StopRequest
from metagene_classifier.training.steps import MicroBatchTooLarge, Objective, read_keys

CPU = torch.device("cpu")
FRAMING = Framing(prefix=(3,), suffix=(4,), pad_id=0, max_length=32, overlap=0.125)
SOURCE = EmbeddingSource("tiny", "files", "none", "float32", "float32", "mean", "tokenizer", FRAMING)
ALONE = SimpleNamespace(process_index=0, num_processes=1, wait_for_everyone=lambda: None)


def tokens_of(seed: int, lengths: tuple[int, ...]) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(6, 1024, length).astype(np.uint16) for length in lengths]


LENGTHS = (12, 100, 30, 31, 8, 64, 20, 20, 5, 30)
TRAIN = tokens_of(0, LENGTHS)
VALIDATION = tokens_of(1, (40, 9, 77))


def selection(folder, tokens: list[np.ndarray], *, classes_from: int = 0, shards: int = 1) -> Selection:
    reads = [(ids, (number + classes_from) % 5) for number, ids in enumerate(tokens)]
    return Selection.of(store_of(folder, reads, classes=5, shards=shards))


@pytest.fixture
def sets(tmp_path) -> dict[str, Selection]:
    return {
        "training": selection(tmp_path / "training", TRAIN, shards=3),
        "validation": selection(tmp_path / "validation", VALIDATION),
    }


@pytest.fixture(autouse=True)
def _small_blocks_in_a_cache_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(embeddings, "READS_PER_BLOCK", 4)
    monkeypatch.setenv("MGC_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def classifier(classifier_of, llama_encoder) -> ReadClassifier:
    return classifier_of(llama_encoder)


def embedder_of(classifier: ReadClassifier, *, tokens: int = 1000, layout: str = "buckets", tell=print) -> Embedder:
    return Embedder(SOURCE, classifier, 32, TokenBudget(tokens, tell), layout, CPU)


def never(batch):
    raise AssertionError("the encoder was run")


def expected(classifier: ReadClassifier, reads: list[np.ndarray]) -> np.ndarray:
    windows = [segment for tokens in reads for segment in FRAMING.segments(tokens)]
    with torch.no_grad():
        hidden = [classifier.encoder(torch.tensor(window)[None]).last_hidden_state[0] for window in windows]
    return torch.stack([states.mean(0) for states in hidden]).numpy()


@pytest.mark.parametrize("layout", ["buckets", "packed", "padded"])
def test_the_pooled_hidden_states_of_every_window_are_kept(classifier, layout, sets):
    found = embed_once(sets, embedder_of(classifier, tokens=70, layout=layout), ranks=ALONE, tell=print)
    for name, reads in (("training", TRAIN), ("validation", VALIDATION)):
        np.testing.assert_allclose(found[name].values, expected(classifier, reads), rtol=1e-4, atol=1e-5)
    assert {entry.kind for entry in entries()} == {"embeddings"} and len(entries()) == 2


def test_the_second_time_the_encoder_is_not_run(classifier, monkeypatch, sets):
    told = []
    first = embed_once(sets, embedder_of(classifier), ranks=ALONE, tell=told.append)
    assert any(line.startswith("the encoder runs once over the reads; the embeddings take") for line in told)
    told.clear()
    monkeypatch.setattr(classifier, "embed", never)
    second = embed_once(sets, embedder_of(classifier), ranks=ALONE, tell=told.append)
    assert [line.split(",")[0] for line in told] == [
        "training: using the stored embeddings of 10 reads",
        "validation: using the stored embeddings of 3 reads",
    ]
    np.testing.assert_array_equal(first["training"].values, second["training"].values)


def test_no_validation_reads_are_no_embeddings(classifier, sets, tmp_path):
    sets["validation"] = selection(tmp_path / "none", [])
    found = embed_once(sets, embedder_of(classifier), ranks=ALONE, tell=print)
    assert found["validation"].values.shape == (0, 32) and len(entries()) == 1


def test_damage_is_told_and_only_what_is_damaged_made_again(classifier, monkeypatch, sets):
    found = embed_once(sets, embedder_of(classifier), ranks=ALONE, tell=print)
    before = np.array(found["training"].values)
    entry = next(entry for entry in entries() if "training" in entry.description)
    with open(entry.folder / "embeddings.npy", "r+b") as handle:
        handle.seek(-4, 2)
        handle.write(b"\0\0\0\0")
    embedded, told = [], []
    run = classifier.embed
    monkeypatch.setattr(classifier, "embed", lambda batch: (embedded.append(batch.segments), run(batch))[1])
    found = embed_once(sets, embedder_of(classifier), ranks=ALONE, tell=told.append)
    np.testing.assert_array_equal(found["training"].values, before)
    assert sum(embedded) == 2  # the last block of ten reads: two
    assert any("are damaged in 1 blocks: made again" in line for line in told)


def test_a_truncated_entry_is_told_and_made_again(classifier, sets):
    found = embed_once(sets, embedder_of(classifier), ranks=ALONE, tell=print)
    before = np.array(found["validation"].values)
    entry = next(entry for entry in entries() if "validation" in entry.description)
    path = entry.folder / "embeddings.npy"
    path.write_bytes(path.read_bytes()[:-100])
    told = []
    found = embed_once(sets, embedder_of(classifier), ranks=ALONE, tell=told.append)
    np.testing.assert_array_equal(found["validation"].values, before)
    assert any("are damaged (embeddings.npy): made again" in line for line in told)


@pytest.mark.parametrize(
    "other",
    [
        replace(SOURCE, files="others"),
        replace(SOURCE, quantization="nf4"),
        replace(SOURCE, weights_dtype="bfloat16"),
        replace(SOURCE, compute_dtype="bfloat16"),
        replace(SOURCE, pooling="max"),
        replace(SOURCE, tokenizer="another"),
        replace(SOURCE, framing=replace(FRAMING, max_length=33)),
        replace(SOURCE, framing=replace(FRAMING, overlap=0.5)),
        replace(SOURCE, framing=replace(FRAMING, prefix=())),
        replace(SOURCE, framing=replace(FRAMING, suffix=(5,))),
    ],
)
def test_whatever_changes_the_values_changes_the_entry(sets, other):
    assert SOURCE.key(sets["training"]) != other.key(sets["training"])


def test_other_tokens_are_another_entry_and_other_labels_or_another_name_are_not(sets, tmp_path):
    train = sets["training"]
    changed = [*TRAIN[:3], TRAIN[3] + 1, *TRAIN[4:]]
    flat = np.concatenate(TRAIN)
    shifted = np.split(flat, np.cumsum([13, 99, *LENGTHS[2:-1]]))
    others = [selection(tmp_path / str(number), reads) for number, reads in enumerate((changed, shifted))]
    fewer = Selection.of(train.store, max_reads=9)
    assert len({SOURCE.key(reads) for reads in (train, *others, fewer)}) == 4
    assert SOURCE.key(selection(tmp_path / "labels", TRAIN, classes_from=1)) == SOURCE.key(train)
    assert replace(SOURCE, encoder="elsewhere").key(train) == SOURCE.key(train)


def test_reads_that_are_cut_are_embedded_as_far_as_they_are_taken(classifier, sets, tmp_path):
    cut = replace(SOURCE, framing=replace(FRAMING, first_only=True))
    short = selection(tmp_path / "short", [tokens[: FRAMING.capacity] for tokens in TRAIN])
    assert cut.key(sets["training"]) == cut.key(short) != cut.key(selection(tmp_path / "other", TRAIN[1:]))
    embedder = replace(embedder_of(classifier), source=cut)
    found = embed_once({"training": sets["training"]}, embedder, ranks=ALONE, tell=print)
    wanted = expected(classifier, [tokens[: FRAMING.capacity] for tokens in TRAIN])
    np.testing.assert_allclose(found["training"].values, wanted, rtol=1e-4, atol=1e-5)


def test_memory_that_runs_out_while_embedding_costs_a_line(classifier, monkeypatch, sets):
    run, told = classifier.embed, []

    def small(batch):
        if batch.tokens > 80:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run(batch)

    wanted = expected(classifier, TRAIN)
    monkeypatch.setattr(classifier, "embed", small)
    found = embed_once(
        {"training": sets["training"]}, embedder_of(classifier, tell=told.append), ranks=ALONE, tell=print
    )
    np.testing.assert_allclose(found["training"].values, wanted, rtol=1e-4, atol=1e-5)
    assert told and all("out of memory" in line for line in told)


def test_progress_counts_every_read_once_when_memory_runs_out_on_the_way(classifier, monkeypatch):
    run, calls, counted = classifier.embed, iter(range(100)), []

    def third(batch):
        if next(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run(batch)

    monkeypatch.setattr(classifier, "embed", third)
    embedder_of(classifier, tokens=96).embed(TRAIN, counted.append)
    assert sum(counted) == 10


def test_values_that_are_no_numbers_are_refused_and_not_kept(classifier, monkeypatch, sets):
    run = classifier.embed
    monkeypatch.setattr(classifier, "embed", lambda batch: run(batch) * float("inf"))
    with pytest.raises(EncoderError, match="no numbers in float32"):
        embed_once(sets, embedder_of(classifier), ranks=ALONE, tell=print)
    monkeypatch.setattr(classifier, "embed", run)
    found = embed_once(sets, embedder_of(classifier), ranks=ALONE, tell=print)
    assert np.isfinite(found["training"].values).all()


def test_too_small_a_disk_is_told_before_the_encoder_runs(classifier, monkeypatch, sets):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(embedding.shutil, "disk_usage", lambda path: usage(10_000, 9_000, 1000))
    monkeypatch.setattr(classifier, "embed", never)
    with pytest.raises(OutputError, match=r"2\.\d kB for the training reads .* 1\.0 kB are free .*MGC_CACHE.*fewer"):
        embed_once(sets, embedder_of(classifier), ranks=ALONE, tell=print)


def test_a_stop_keeps_whole_blocks_and_the_next_start_goes_on(classifier, monkeypatch, sets):
    told, run, batches = [], classifier.embed, []
    stop = StopRequest()
    monkeypatch.setattr(embedding, "StopRequest", lambda: stop)

    def stopping(batch):
        batches.append(batch)
        stop._asked = len(batches) == 3
        return run(batch)

    monkeypatch.setattr(classifier, "embed", stopping)
    with pytest.raises(KeyboardInterrupt):
        embed_once(sets, embedder_of(classifier, tokens=300), ranks=ALONE, tell=told.append)
    assert "the blocks that are done are kept" in told[-1]
    stop._asked = False
    told.clear()
    monkeypatch.setattr(classifier, "embed", run)
    found = embed_once(sets, embedder_of(classifier), ranks=ALONE, tell=told.append)
    assert told[0].startswith("training: the embeddings of 8 of 10 reads are stored already")
    np.testing.assert_allclose(found["training"].values, expected(classifier, TRAIN), rtol=1e-4, atol=1e-5)


def test_an_encoder_that_was_let_go_holds_no_memory_and_cannot_run(classifier):
    names = {name: weight.shape for name, weight in classifier.encoder.named_parameters()}
    forget_weights(classifier.encoder, CPU)
    assert {name: weight.shape for name, weight in classifier.encoder.named_parameters()} == names
    assert all(weight.is_meta and not weight.requires_grad for weight in classifier.encoder.parameters())
    assert not any(weight.is_meta for weight in classifier.head.parameters())


def route_of(
    classifier: ReadClassifier, sets: dict[str, Selection], found: dict[str, StoredEmbeddings], tokens: int
) -> FromEmbeddings:
    accelerator = SimpleNamespace(device=CPU, num_processes=1, process_index=0, backward=lambda loss: loss.backward())
    return FromEmbeddings(
        classifier,
        sets["training"],
        found["training"],
        found["validation"],
        Objective(None, 0.1),
        TokenBudget(tokens),
        accelerator,
    )


def test_validation_scores_are_those_of_prediction(classifier, sets):
    found = embed_once(sets, embedder_of(classifier), ranks=ALONE, tell=print)
    wanted = score_reads(
        classifier, VALIDATION, FRAMING, width=5, budget=TokenBudget(999), layout="buckets", device=CPU
    )
    for tokens in (1, 1000):
        scores = route_of(classifier, sets, found, tokens).validation_scores()
        np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-5)


def test_micro_batches_of_embeddings_do_not_change_the_gradient(classifier, sets):
    found = embed_once(sets, embedder_of(classifier), ranks=ALONE, tell=print)
    classifier.train()
    classifier.dropout.rate = 0.3
    results = []
    for tokens in (1000, 3):
        classifier.zero_grad()
        keys = read_keys(np.arange(10), seed=7, epoch=2)
        route = route_of(classifier, sets, found, tokens)
        loss, tokens_seen = route.add_gradients(np.arange(10)[::-1], keys, divisor=10.0)
        results.append((loss.clone(), classifier.head.weight.grad.clone()))
        assert tokens_seen == sum(min(length, 30) + 2 for length in LENGTHS)
    torch.testing.assert_close(results[0], results[1])
    assert all(weight.grad is None for weight in classifier.encoder.parameters())


def test_memory_that_runs_out_in_the_head_is_for_the_loop_to_answer(classifier, monkeypatch, sets):
    found = embed_once(sets, embedder_of(classifier), ranks=ALONE, tell=print)
    route = route_of(classifier, sets, found, 1000)

    def full(pooled, keys):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(classifier, "classify", full)
    with pytest.raises(MicroBatchTooLarge) as caught:
        route.add_gradients(np.arange(10), np.arange(10), divisor=1.0)
    assert (caught.value.tokens, caught.value.segments) == (10, 10)


def test_a_batch_of_embeddings_counts_its_windows():
    batch = PooledBatch(torch.zeros(6, 32), torch.arange(6))
    assert (batch.segments, batch.tokens) == (6, 6)
