"""Small worlds for whole commands: three organisms told apart by their GC content, and an encoder made on the spot."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from metagene_classifier.cli.main import main
from metagene_classifier.hub import RESOURCES

TAXA = [
    (1, 1, "no rank", "root"),
    (2, 1, "superkingdom", "Bacteria"),
    (50, 2, "genus", "Gcensis"),
    (60, 2, "genus", "Altigcensis"),
    (100, 50, "species", "Lowia gcensis"),
    (101, 50, "species", "Midia gcensis"),
    (102, 60, "species", "Highia gcensis"),
]

GC_SHARES = {"Lowia gcensis": 0.25, "Midia gcensis": 0.5, "Highia gcensis": 0.75}


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def mgc(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs a command in this process; fails on a traceback by letting it through."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err)

    return run


def random_read(rng: random.Random, gc: float, length: int) -> str:
    """A read of independent bases."""
    return "".join(rng.choices("ACGT", [(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2], k=length))


@dataclass(frozen=True)
class World:
    """Files that a user would have."""

    mapping: Path
    train: Path
    val: Path
    test: Path
    encoder: Path

    def train_options(self, output: Path) -> list[object]:
        """The words of a short training run, LoRA on the encoder."""
        return [
            "train",
            *("--train-fasta", self.train, "--val-fasta", self.val, "--mapping-tsv", self.mapping),
            *("--output-dir", output, "--device", "cpu", "--batch-size", 16, "--max-epochs", 2),
            *("--set", f"model.encoder_path={self.encoder}", "--set", "training.precision=32"),
            *("--set", "logging.log_interval=1", "--set", "logging.tensorboard=false"),
        ]


def write_labelled(path: Path, reads_per_class: int, seed: int, length: int = 100) -> None:
    """Labelled reads of the three organisms, mixed."""
    rng = random.Random(seed)
    records = [
        f">lbl|{class_id}|{100 + class_id}|{length}|{name} r{number}/1\n{random_read(rng, gc, length)}\n"
        for number in range(reads_per_class)
        for class_id, (name, gc) in enumerate(GC_SHARES.items())
    ]
    path.write_text("".join(records))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The three organisms' reads, their mapping, and a two-layer Llama with METAGENE-1's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("world")
    world = World(
        folder / "mapping.tsv", folder / "train.fa", folder / "val.fa", folder / "test.fa", folder / "encoder"
    )
    rows = [f"{class_id}\t{name}\t{100 + class_id}\n" for class_id, name in enumerate(GC_SHARES)]
    world.mapping.write_text("class_id\tlabel_name\ttax_id\n" + "".join(rows))
    write_labelled(world.train, 48, seed=1)
    write_labelled(world.val, 16, seed=2)
    write_labelled(world.test, 16, seed=3)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        pad_token_id=0,
        bos_token_id=3,
        eos_token_id=4,
    )
    LlamaForCausalLM(config).save_pretrained(world.encoder)
    for file in (RESOURCES / "tokenizers" / "metagene-1").iterdir():
        shutil.copy(file, world.encoder)
    return world


PLAIN_CALLS = ("calling.calibrate=false", "calling.min_tokens=0", "calling.min_complexity=0")


@pytest.fixture(scope="session")
def trained(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run that learned the three organisms; every read gets its likeliest class."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    options = [*world.train_options(folder), "--set", "model.lora.enabled=false", "--lr", 3e-3, "--max-epochs", 4]
    options += [word for setting in PLAIN_CALLS for word in ("--set", setting)]
    with pytest.raises(SystemExit) as ended:
        main([*map(str, options), "--set", f"dataset.test_fasta={world.test}"])
    assert not ended.value.code
    return folder


@pytest.fixture(scope="session")
def ranked(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with ranks, a threshold of 0.8, and reads under 8 tokens or of low complexity refused."""
    from metagene_classifier.model.calibration import CalibrationFacts, CutOff, ReliabilityFacts, TemperatureFacts
    from metagene_classifier.model.description import (
        CallingFacts,
        file_digests,
        read_description,
        write_description,
    )
    from metagene_classifier.model.saved import TAXONOMY_FILE
    from metagene_classifier.reads.taxonomy import TaxonNode, Taxonomy

    folder = tmp_path_factory.mktemp("ranked") / "model"
    shutil.copytree(trained / "best", folder)
    Taxonomy({taxon[0]: TaxonNode(*taxon) for taxon in TAXA}).save(folder / TAXONOMY_FILE)
    bins = ReliabilityFacts(edges=(0.0, 1.0), reads=(48,), confidence=(0.7,), accuracy=(0.7,), ece=0.0)
    calibration = CalibrationFacts(
        temperature=TemperatureFacts(single=0.8, pairs=1.3, pairs_measured=False, reads=48),
        before=bins,
        after=bins,
        threshold=0.8,
        table=(
            CutOff(threshold=0.5, precision=0.8, sensitivity=0.8, called=40, f1=0.8),
            CutOff(threshold=0.95, precision=0.99, sensitivity=0.5, called=30, f1=0.7),
        ),
    )
    description = read_description(folder)
    changes = {
        "calibration": calibration,
        "calling": CallingFacts(min_tokens=8, min_complexity=0.3),
        "taxonomy": True,
        "files": description.files | file_digests(folder, [TAXONOMY_FILE]),
    }
    write_description(folder, description.model_copy(update=changes))
    return folder


@pytest.fixture(scope="session")
def taxdump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three organisms' taxonomy as NCBI would write it."""
    folder = tmp_path_factory.mktemp("taxdump")
    rows = [f"{taxid}\t|\t{parent}\t|\t{rank}\t|\n" for taxid, parent, rank, _ in TAXA]
    (folder / "nodes.dmp").write_text("".join(rows))
    names = [f"{taxid}\t|\t{name}\t|\t\t|\tscientific name\t|\n" for taxid, _, _, name in TAXA]
    (folder / "names.dmp").write_text("".join(names))
    return folder
