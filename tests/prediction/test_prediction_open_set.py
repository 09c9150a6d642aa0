"""Taxa left out on labelled reads of any kind, by a model as it is loaded."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from metagene_classifier.model.saved import LoadedModel
from metagene_classifier.prediction.open_set import open_set_of_reads
from metagene_classifier.prediction.opening import scorer_for
from metagene_classifier.reads.read import Read

# Of each class's bases; the last one is the model's third class.
WEIGHTS = ((4, 1, 1, 4), (1, 4, 4, 1), (1, 1, 4, 4))


@pytest.fixture(scope="module")
def reads() -> list[tuple[Read, int]]:
    bases = random.Random(11)
    return [
        (Read(f"r{pair}.{number}/{mate}", "".join(bases.choices("ACGT", WEIGHTS[number], k=90))), number)
        for pair in range(60)
        for number in range(3)
        for mate in (1, 2)
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory, llama_encoder, labelled_files) -> LoadedModel:
    from metagene_classifier.config_file import load_config
    from metagene_classifier.model.saved import load_model
    from metagene_classifier.training.run import train

    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp("open-set") / "run"
    values = {
        "device": "cpu",
        "dataset.train_fasta": str(labelled_files.train_fasta),
        "dataset.val_fasta": str(labelled_files.val_fasta),
        "dataset.mapping_tsv": str(labelled_files.mapping_tsv),
        "model.encoder_path": str(llama_encoder),
        "model.freeze": "encoder",
        "training.precision": "32",
        "training.max_epochs": 2,
        "training.output_dir": str(output),
        "logging.tensorboard": False,
    }
    train(
        load_config(None, values),
        resume=False,
        overwrite=False,
        tell=lambda line: None,
        write_card=lambda folder, facts: None,
    )
    return load_model(output / "best", device="cpu", tell=lambda line: None)


@pytest.fixture(scope="module")
def embedder(model):
    return scorer_for(model, batch_size=None, max_tokens=None, long_reads=None, embed=True, tell=lambda line: None)


def test_every_class_is_a_stranger_once(model, embedder, reads):
    found = open_set_of_reads(model, embedder, iter(reads))
    assert set(found) == {"probability", "energy", "centroid"}
    for figures in found.values():
        assert {fold.left_out for fold in figures.folds} == {(name,) for name in model.description.label_table().names}
        assert 0 < figures.unknown < 360
        # What is a stranger once is known in the two other folds.
        assert figures.known == 2 * figures.unknown


def test_the_same_reads_give_the_same_figures(model, embedder, reads):
    first, second = (open_set_of_reads(model, embedder, iter(reads), most=60, seed=4) for _ in range(2))
    assert first["energy"].as_dict() == second["energy"].as_dict()
    assert first["energy"].unknown <= 60


def test_reads_without_a_base_are_left_out(model, embedder, reads):
    nothing = [(Read(f"n{number}", "NNNN"), number % 3) for number in range(30)]
    with_nothing = open_set_of_reads(model, embedder, [*reads, *nothing], most=10_000)
    without = open_set_of_reads(model, embedder, reads, most=10_000)
    assert with_nothing["energy"].known == without["energy"].known
    np.testing.assert_allclose(with_nothing["energy"].auroc, without["energy"].auroc, atol=0.02)


@pytest.mark.parametrize("classes", [0, 2])
def test_two_classes_have_no_strangers_and_a_line_says_so(model, embedder, reads, classes):
    lines: list[str] = []
    found = open_set_of_reads(model, embedder, [one for one in reads if one[1] < classes], tell=lines.append)
    assert found == {}
    assert len(lines) == 1 and "at least three classes" in lines[0]
