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


@pytest.fixture(scope="session")
def trained(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run that learned the three organisms."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    options = [*world.train_options(folder), "--set", "model.lora.enabled=false", "--lr", 3e-3, "--max-epochs", 4]
    with pytest.raises(SystemExit) as ended:
        main([*map(str, options), "--set", f"dataset.test_fasta={world.test}"])
    assert not ended.value.code
    return folder
