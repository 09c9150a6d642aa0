"""METAGENE-1 at its true size and width, with random weights: what fits where, and that 4 bits train."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from metagene_classifier.batching.batch import TokenBatch, collate
from metagene_classifier.config_file import load_config
from metagene_classifier.hub import RESOURCES
from metagene_classifier.model.encoder import EncoderSource, load_encoder
from metagene_classifier.model.quantization import quantization_of
from metagene_classifier.model.saved import load_model, save_model
from metagene_classifier.training.builder import build_classifier
from metagene_classifier.training.data import load_training_data
from metagene_classifier.training.settings import describe

pytestmark = pytest.mark.slow

GENOMES = Path(__file__).resolve().parents[2] / "data" / "genomes"
CPU = torch.device("cpu")
WITHOUT_HEAD = 6_484_660_224 - 1024 * 4096

BUILD = """
import json, resource, time
import torch
from metagene_classifier.batching.batch import collate
from metagene_classifier.hub import RESOURCES
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.dropout import TokenKeys
from metagene_classifier.model.encoder import EncoderSource, load_encoder
from metagene_classifier.tokenization.huggingface import load_huggingface
import numpy as np

READS = [
    "ACTACTGCTCAATTTTTTTACTTTTATCGATTAAAGATAGAAATACACGATGCGAGCAATCAAATTTCATAACATCACCATGAGTTTGATCCGAAGCATGAGTAC",
    "AGCTTTTCATTCTGACTGCAACGGGCAATATGTCTCTGTGTGGATTAAAAAAAGAGTGTCTGATAGCAGCTTCTGAACTGGTTACCTGCCGTGAGTAAATTAAAA",
]
begun = time.monotonic()
encoder = load_encoder(
    EncoderSource("builtin:metagene-1", new=True), dtype=torch.bfloat16, device=torch.device("cpu"), seed=0
)
built = time.monotonic()
tokenizer = load_huggingface(RESOURCES / "tokenizers" / "metagene-1", "metagene-1")
classifier = ReadClassifier(
    encoder, hidden_size=4096, classes=0, pooling="mean", dropout=0.0, keys=TokenKeys(), compute_dtype=torch.bfloat16
).eval()
segments = [np.concatenate([[3], ids, [4]]) for ids in tokenizer.encode_batch(READS)]
with torch.inference_mode():
    embedded = classifier.embed(
        collate(segments, np.arange(2, dtype=np.int64), layout="buckets", padded_length=0, pad_id=0)
    )
print(json.dumps({
    "parameters": sum(weight.numel() for weight in encoder.parameters()),
    "dtypes": sorted({str(weight.dtype) for weight in encoder.parameters()}),
    "shape": list(embedded.shape),
    "finite": bool(embedded.isfinite().all()),
    "apart": float((embedded[0] - embedded[1]).abs().max()),
    "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "built_s": round(built - begun),
    "embedded_s": round(time.monotonic() - built),
}))
"""


def available_bytes() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def test_metagene_1_at_full_size_is_built_and_embeds_reads_in_24_gb(record_property):
    if not Path("/proc/meminfo").exists() or available_bytes() < 17 * 2**30:
        pytest.skip("needs Linux and 17 GiB of free memory")
    done = subprocess.run([sys.executable, "-c", BUILD], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found["parameters"] == WITHOUT_HEAD
    assert found["dtypes"] == ["torch.bfloat16"]
    assert (found["shape"], found["finite"]) == ([2, 4096], True)
    assert found["apart"] > 0
    assert found["peak_bytes"] < 20 * 2**30


@pytest.fixture(scope="module")
def two_layers(tmp_path_factory) -> Path:
    """Two layers of METAGENE-1's width, in bfloat16, with its tokenizer."""
    folder = tmp_path_factory.mktemp("two-layers")
    architecture = folder / "architecture"
    architecture.mkdir()
    config = json.loads((RESOURCES / "encoders" / "metagene-1" / "config.json").read_text())
    (architecture / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    encoder = load_encoder(EncoderSource(str(architecture), new=True), dtype=torch.bfloat16, device=CPU, seed=0)
    encoder.save_pretrained(folder / "encoder", max_shard_size="200MB")
    for path in (RESOURCES / "tokenizers" / "metagene-1").iterdir():
        (folder / "encoder" / path.name).write_bytes(path.read_bytes())
    return folder / "encoder"


def genome(name: str) -> str:
    (path,) = GENOMES.glob(f"{name}*")
    with gzip.open(path, "rt") as handle:
        return "".join(line.strip() for line in handle if not line.startswith(">"))


@pytest.fixture(scope="module")
def reads(tmp_path_factory) -> tuple[Path, Path]:
    """16 reads of 150 bp of each of two genomes, with their mapping."""
    folder = tmp_path_factory.mktemp("reads")
    (folder / "mapping.tsv").write_text("class_id\tlabel_name\n0\tStaphylococcus aureus\n1\tPseudomonas aeruginosa\n")
    genomes = [genome("Staphylococcus"), genome("Pseudomonas")]
    records = [
        f">lbl|{class_id}|0|150|r{number}/1\n{bases[start : start + 150]}\n"
        for number in range(16)
        for class_id, bases in enumerate(genomes)
        for start in (20_011 * (number + 1),)
    ]
    (folder / "reads.fa").write_text("".join(records))
    return folder / "reads.fa", folder / "mapping.tsv"


def test_metagene_1s_width_trains_in_nf4_and_calls_the_same_when_it_is_loaded_again(two_layers, reads, tmp_path):
    config = load_config(
        None,
        {
            "device": "cpu",
            "dataset.train_fasta": str(reads[0]),
            "dataset.val_fasta": str(reads[0]),
            "dataset.mapping_tsv": str(reads[1]),
            "model.encoder_path": str(two_layers),
            "model.quantization": "nf4",
            "model.lora.dropout": 0.0,
            "model.dropout": 0.0,
            "training.precision": "32",
        },
    )
    data = load_training_data(config, lambda line: None)
    told: list[str] = []
    built = build_classifier(config, classes=2, device=CPU, tell=told.append)
    classifier = built.classifier
    assert quantization_of(classifier.encoder) == "nf4"
    assert any("weights cached" in line for line in told)

    def batch(chosen: range) -> TokenBatch:
        framed = [np.concatenate([[3], data.train.store.tokens(read), [4]]).astype(np.int64) for read in chosen]
        keys = np.asarray(chosen, dtype=np.int64)
        return collate(framed, keys, layout="buckets", padded_length=0, pad_id=0)

    learns = [weight for weight in classifier.parameters() if weight.requires_grad]
    assert sum(weight.numel() for weight in learns) < 2_000_000
    optimizer = torch.optim.AdamW(learns, lr=2e-3)
    classifier.train()
    classes = torch.from_numpy(data.train.store.classes_of(np.arange(16)).astype(np.int64))
    losses = []
    for _ in range(6):
        loss = torch.nn.functional.cross_entropy(classifier(batch(range(16))), classes)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0], losses

    folder = tmp_path / "model"
    folder.mkdir()
    classifier.eval()
    save_model(folder, classifier, data.tokenizer, describe(config, data, built))
    loaded = load_model(folder, device="cpu", tell=told.append)
    assert any("read from the cache" in line for line in told)
    assert quantization_of(loaded.classifier.encoder) == "nf4"
    with torch.inference_mode():
        held_out = batch(range(16, 32))
        before, after = classifier(held_out), loaded.classifier(held_out)
    assert torch.equal(before.argmax(1), after.argmax(1))
    assert torch.equal(before, after)
