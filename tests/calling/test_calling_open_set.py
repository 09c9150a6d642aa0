"""Taxa left out: which go together, what a head without them makes of them, and what is refused for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from metagene_classifier.calling.head_fit import fit_head
from metagene_classifier.calling.novelty import energies, strangeness
from metagene_classifier.calling.open_set import Embedded, class_folds, figures_of, leave_taxa_out
from metagene_classifier.calling.refusal import choose
from metagene_classifier.calling.spaces import Axes, centroids_of
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.errors import ModelFolderError
from metagene_classifier.model.centroids import CENTROIDS_FILE, Centroids
from metagene_classifier.model.scoring import probabilities_of
from metagene_classifier.reads.labels import ClassLabel, Labels
from metagene_classifier.reads.taxonomy import TaxonNode, Taxonomy

HIDDEN = 16


def flat(classes: int) -> ClassTree:
    return ClassTree.of(Labels(tuple(ClassLabel(str(one), f"class {one}") for one in range(classes))))


def of_genera(sizes: list[int]) -> ClassTree:
    """Genera of so many species each; the classes are the species."""
    nodes = {1: TaxonNode(1, 1, "no rank", "root")}
    classes = []
    for genus, size in enumerate(sizes, 1):
        nodes[10 * genus] = TaxonNode(10 * genus, 1, "genus", f"genus {genus}")
        for species in range(size):
            taxid = 1000 * genus + species
            nodes[taxid] = TaxonNode(taxid, 10 * genus, "species", f"species {taxid}")
            classes.append(ClassLabel(str(len(classes)), f"species {taxid}", taxid))
    return ClassTree.of(Labels(tuple(classes)), Taxonomy(nodes))


def test_up_to_as_many_classes_as_folds_are_left_out_one_by_one():
    folds = class_folds(flat(10), np.arange(10), 10, seed=0)
    assert sorted(fold.tolist() for fold in folds) == [[one] for one in range(10)]


def test_species_of_a_genus_are_left_out_together():
    tree = of_genera([3, 1, 2, 3, 1, 2])
    folds = class_folds(tree, np.arange(12), 4, seed=0)
    fold_of = {one: number for number, fold in enumerate(folds) for one in fold.tolist()}
    assert sorted(fold_of) == list(range(12))
    assert [len(fold) for fold in folds] == [3, 3, 3, 3]
    first = 0
    for size in [3, 1, 2, 3, 1, 2]:
        assert len({fold_of[one] for one in range(first, first + size)}) == 1
        first += size


def test_a_genus_larger_than_a_fold_is_split():
    folds = class_folds(of_genera([20, 1, 1]), np.arange(22), 10, seed=0)
    assert max(len(fold) for fold in folds) <= 3
    assert sorted(np.concatenate(folds).tolist()) == list(range(22))


def test_classes_of_one_taxon_are_left_out_together():
    labels = Labels(tuple(ClassLabel(str(one), f"strain {one}", 562 if one < 2 else 1000 + one) for one in range(4)))
    folds = class_folds(ClassTree.of(labels), np.arange(4), 10, seed=0)
    assert sorted(fold.tolist() for fold in folds) == [[0, 1], [2], [3]]


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=30), st.integers(2, 10), st.integers(0, 5))
def test_every_class_is_left_out_exactly_once(sizes, most, seed):
    tree = of_genera(sizes)
    classes = np.arange(sum(sizes))[::2]
    folds = class_folds(tree, classes, most, seed)
    assert sorted(np.concatenate(folds).tolist()) == classes.tolist()
    assert 1 <= len(folds) <= most
    assert all(len(fold) for fold in folds)


def clouds(classes: int, reads: int, seed: int, spread: float = 1.0, hidden: int = HIDDEN) -> tuple[np.ndarray, ...]:
    """Embeddings about a mean for each class, and scores of the honest head."""
    means = np.random.default_rng(99).normal(0, 2, (classes, hidden))
    generator = np.random.default_rng(seed)
    truth = np.arange(reads) % classes
    values = (means[truth] + generator.normal(0, spread, (reads, hidden))).astype(np.float32)
    scores = (values @ means.T - (means**2).sum(axis=1) / 2) / spread**2
    return values, scores.astype(np.float32), truth.astype(np.int64)


def test_a_head_is_that_of_logistic_regression():
    values, _, truth = clouds(4, 400, seed=1, spread=3.0)
    head = fit_head(values, truth, 4)
    expected = LogisticRegression(C=1.0, max_iter=2000, tol=1e-8).fit(values, truth)
    np.testing.assert_allclose(probabilities_of(head.scores(values)), expected.predict_proba(values), atol=0.02)


def test_a_head_that_begins_at_another_stays_near_it_without_reads_that_say_otherwise():
    values, scores, truth = clouds(4, 40, seed=1)
    head = fit_head(values, truth, 4, begin=scores)
    assert np.abs(head.scores(values, scores) - scores).max() < 0.5


def test_axes_keep_the_distances_between_reads():
    values, _, _ = clouds(5, 60, seed=2)
    axes = Axes.of(values, seed=0)
    placed = axes.place(values)
    np.testing.assert_allclose(
        np.linalg.norm(placed[0] - placed[7]) * axes.scale, np.linalg.norm(values[0] - values[7]), rtol=1e-4
    )
    assert placed.var(axis=0).mean() == pytest.approx(1.0, rel=1e-3)


def test_distances_are_mahalanobis_to_the_nearest_mean():
    values, _, truth = clouds(3, 3000, seed=3)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    means = np.stack([unit[truth == one].mean(axis=0) for one in range(3)])
    within = unit - means[truth]
    inverse = np.linalg.pinv(within.T @ within / (3000 - 3))
    off = unit[:, None, :] - means[None]
    expected = np.einsum("rcd,de,rce->rc", off, inverse, off).min(axis=1)
    found = centroids_of(Axes.of(values, 0, to_length_1=True), values, truth).distances(values)
    # The covariance is shrunk a little.
    assert np.corrcoef(found, expected)[0, 1] > 0.95


def test_centroids_come_back_as_they_were_saved(tmp_path):
    values, _, truth = clouds(3, 30, seed=3)
    centroids = centroids_of(Axes.of(values, 0, to_length_1=True), values, truth)
    centroids.save(tmp_path)
    assert Centroids.load(tmp_path).distances(values).tolist() == centroids.distances(values).tolist()
    (tmp_path / CENTROIDS_FILE).write_bytes(b"nothing")
    with pytest.raises(ModelFolderError, match="missing or damaged"):
        Centroids.load(tmp_path)


def test_a_class_with_a_single_read_each_has_distances_too():
    values, _, truth = clouds(30, 30, seed=4)
    found = centroids_of(Axes.of(values, 0, to_length_1=True), values, truth).distances(values)
    assert np.isfinite(found).all()
    assert found.max() < 1e-3  # each read is its class's mean


def left_out(classes: int = 6, reads: int = 600, spread: float = 1.0, hidden: int = HIDDEN, **options: int):
    tree = flat(classes)
    fit = Embedded(*clouds(classes, reads, seed=1, spread=spread, hidden=hidden))
    scored = Embedded(*clouds(classes, reads, seed=2, spread=spread, hidden=hidden))
    return tree, scored, leave_taxa_out(fit, scored, tree, folds=options.get("folds", 10), seed=0)


def test_each_read_is_a_stranger_once_and_never_called_what_was_left_out():
    tree, _, folds = left_out()
    assert sorted(np.concatenate([fold.unknown for fold in folds]).tolist()) == list(range(600))
    for fold in folds:
        assert set(fold.truth.tolist()) == set(fold.classes.tolist())
        assert sorted([*fold.known, *fold.unknown]) == list(range(600))
        assert not fold.probabilities[:, fold.classes].any()
        np.testing.assert_allclose(fold.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert {fold.left_out for fold in figures_of(folds, tree)["energy"].folds} == {
        (f"class {one}",) for one in range(6)
    }


def test_classes_far_apart_are_strangers_by_their_distance():
    tree, _, folds = left_out()
    figures = figures_of(folds, tree)
    assert set(figures) == {"probability", "energy", "centroid"}
    assert figures["centroid"].auroc > 0.95
    assert figures["centroid"].false_calls_at_95 < 0.3
    assert figures["probability"].auroc > 0.6


def test_embeddings_that_say_nothing_of_the_classes_find_no_strangers():
    generator = np.random.default_rng(5)
    truth = (np.arange(600) % 6).astype(np.int64)

    def noise() -> Embedded:
        return Embedded(generator.normal(size=(600, HIDDEN)).astype(np.float32), np.zeros((600, 6), np.float32), truth)

    tree = flat(6)
    figures = figures_of(leave_taxa_out(noise(), noise(), tree, folds=10, seed=0), tree)
    for one in figures.values():
        assert one.auroc == pytest.approx(0.5, abs=0.05)


def test_two_classes_cannot_be_left_out():
    _, _, folds = left_out(classes=2, reads=100)
    assert folds == []


def test_many_classes_of_few_reads_begin_at_the_trained_head():
    tree, _, folds = left_out(classes=80, reads=160, hidden=60)
    assert len(folds) == 10
    for fold in folds:
        called = fold.probabilities.argmax(axis=1)
        assert not np.isin(called, fold.classes).any()
    assert figures_of(folds, tree)["energy"].auroc > 0.6


def chosen(spread: float, folds_wanted: bool = True):
    tree, scored, folds = left_out(spread=spread)
    probabilities = probabilities_of(scored.scores)
    fit_values, _, fit_truth = clouds(6, 600, seed=1, spread=spread)
    centroids = centroids_of(Axes.of(fit_values, 0, to_length_1=True), fit_values, fit_truth)
    novelty = {
        "probability": strangeness(probabilities),
        "energy": energies(scored.scores),
        "centroid": centroids.distances(scored.values),
    }
    return choose(probabilities, scored.classes, tree, folds if folds_wanted else [], novelty), novelty, scored


def test_the_score_that_knows_strangers_best_is_kept_with_its_cut_off():
    choice, novelty, _ = chosen(spread=2.0)
    assert choice.refusal is not None
    best = max(choice.figures.values(), key=lambda one: one.auroc)
    assert choice.refusal.score == best.score == "centroid"
    assert choice.refusal.cutoff is not None
    refused = (novelty["centroid"] > choice.refusal.cutoff).mean()
    assert 0 < refused < 0.21
    assert (choice.refusal.known, choice.refusal.unknown, choice.refusal.folds) == (500, 600, 6)


def test_strangers_raise_the_threshold():
    alone, _, _ = chosen(spread=2.0, folds_wanted=False)
    assert alone.refusal is None
    assert alone.figures == {}
    both, _, _ = chosen(spread=2.0)
    assert both.threshold > alone.threshold


def test_the_confusion_is_counted_with_what_is_refused():
    choice, novelty, scored = chosen(spread=2.0)
    assert choice.refusal is not None
    counts = choice.confusion.counts.toarray()
    assert choice.confusion.has_unknown
    assert counts[:6].sum() == len(scored.classes)
    assert counts[6].sum() == 600
    probabilities = probabilities_of(scored.scores)
    called = (probabilities.max(axis=1) >= choice.threshold) & ~(novelty["centroid"] > choice.refusal.cutoff)
    assert counts[:6, :6].sum() == called.sum()
    right = called & (probabilities.argmax(axis=1) == scored.classes)
    assert np.trace(counts[:6, :6]) == right.sum()
    # Most strangers are not called; most known reads are.
    assert counts[6, 6] / 600 > 0.5 > counts[:6, 6].sum() / 600


def test_a_cut_off_that_adds_nothing_is_not_kept():
    """Strangers that look like known reads in every way: to refuse them costs as many known ones."""
    generator = np.random.default_rng(8)
    tree = flat(4)
    truth = (np.arange(800) % 4).astype(np.int64)
    values = generator.normal(size=(800, HIDDEN)).astype(np.float32)
    scores = generator.normal(size=(800, 4)).astype(np.float32)
    folds = leave_taxa_out(
        Embedded(values, scores, truth), Embedded(values[::-1], scores, truth), tree, folds=10, seed=0
    )
    probabilities = probabilities_of(scores)
    novelty = {name: generator.normal(size=800) for name in ("probability", "energy", "centroid")}
    choice = choose(probabilities, truth, tree, folds, novelty)
    assert choice.refusal is not None
    assert choice.refusal.cutoff is None


def test_the_embedding_comes_with_the_scores():
    from metagene_classifier.model.centroids import run_with_embedding

    values, _, _ = clouds(3, 30, seed=3)

    class Classifier:
        def embed(self, batch: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(values)

        def classify(self, pooled: torch.Tensor, keys: object) -> torch.Tensor:
            return pooled[:, :3]

    class Batch:
        keys = None

    found = run_with_embedding(Classifier())(Batch())
    np.testing.assert_array_equal(found[:, :3].numpy(), values[:, :3])
    np.testing.assert_array_equal(found[:, 3:].numpy(), values)
