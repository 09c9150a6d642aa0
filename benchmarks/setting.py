"""What the throughput benchmarks share: reads of a real genome, the small Llama, the earlier behaviour, the record."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from metagene_classifier.batching.framing import Framing, framing_for
from metagene_classifier.batching.micro_batches import Layout
from metagene_classifier.hub import RESOURCES
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.dropout import TokenKeys
from metagene_classifier.model.packing import choose_layout
from metagene_classifier.reads.cleaning import clean_sequence
from metagene_classifier.reads.files import read_records
from metagene_classifier.reads.labels import ClassLabel, Labels, write_mapping
from metagene_classifier.store.facts import (
    MAPPING_FILE,
    LabellingFacts,
    ShardFacts,
    SourceFacts,
    StoreFacts,
    TokenizerFacts,
    shard_name,
    write_shard_facts,
    write_store_facts,
)
from metagene_classifier.store.shards import write_shard
from metagene_classifier.store.tokens import TokenStore
from metagene_classifier.tokenization.huggingface import load_huggingface
from metagene_classifier.tokenization.tokenizer import ReadTokenizer

GENOME = Path(__file__).resolve().parent.parent / "data" / "genomes" / "Escherichia_coli.K12_MG1655.fna.gz"
READ_LENGTH_BP = 150
PADDED_TOKENS = 512
CLASSES = 10
PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "numpy")


def reads_of_genome(count: int, seed: int = 0, lengths_bp: npt.NDArray[np.int64] | None = None) -> list[str]:
    """Reads from random places of a genome that the project ships, of 150 bp where no lengths are given."""
    genome = clean_sequence(next(read_records(GENOME)).sequence)
    lengths = np.full(count, READ_LENGTH_BP) if lengths_bp is None else lengths_bp
    starts = np.random.default_rng(seed).integers(0, len(genome) - lengths.max(), count)
    return [genome[start : start + length] for start, length in zip(starts, lengths, strict=True)]


def store_of_reads(folder: Path, sequences: Sequence[str], classes: npt.NDArray[np.int32]) -> TokenStore:
    """A store of one shard in ``folder``, with METAGENE-1's tokens of the reads."""
    tokenizer = metagene_tokenizer()
    tokens = tokenizer.encode_batch(sequences)
    lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
    written, sha256 = write_shard(
        folder,
        shard_name(0),
        ids=np.concatenate(tokens).astype(np.uint16),
        lengths=lengths,
        classes=classes,
        groups=np.arange(len(tokens), dtype=np.uint64),
        read_ids=None,
    )
    shard = ShardFacts(
        name=shard_name(0),
        reads=len(tokens),
        tokens=int(lengths.sum()),
        bytes=written,
        sha256=sha256,
        longest=int(lengths.max()),
        source=SourceFacts(input=0, first_byte=0, text_bytes=0, first_record=1, first_line=1),
        reads_per_class=dict(enumerate(np.bincount(classes, minlength=CLASSES).tolist())),
    )
    write_shard_facts(folder, shard)
    labels = Labels(tuple(ClassLabel(str(number), f"class {number}") for number in range(CLASSES)))
    write_mapping(folder / MAPPING_FILE, labels)
    facts = StoreFacts(
        package_version=version("metagene-classifier"),
        tokenizer=TokenizerFacts(kind=tokenizer.kind, name=tokenizer.name, fingerprint=tokenizer.fingerprint),
        labelling=LabellingFacts(labels_from="header", strict_classes=True),
        classes_sha256=labels.fingerprint(),
        inputs=(),
        ids_dtype="uint16",
        read_ids=False,
        shards=(shard,),
        reads_per_class=shard.reads_per_class,
    )
    write_store_facts(folder, facts)
    return TokenStore.open(folder)


def metagene_tokenizer() -> ReadTokenizer:
    """METAGENE-1's tokenizer."""
    return load_huggingface(RESOURCES / "tokenizers" / "metagene-1", "METAGENE-1")


def framing(tokenizer: ReadTokenizer) -> Framing:
    """Segments of at most 512 tokens."""
    return framing_for(tokenizer, PADDED_TOKENS, 0.125)


def small_llama(device: torch.device) -> Any:
    """Hidden 256, 4 layers, 4 heads, MLP 688, float32: 3.4 million parameters."""
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=3,
        eos_token_id=4,
        use_cache=False,
        attn_implementation="sdpa",
    )
    return LlamaModel(config).to(device)


def small_classifier(device: torch.device) -> tuple[ReadClassifier, Layout]:
    """This project's classifier on :func:`small_llama`, with the layout that it takes on this device."""
    encoder = small_llama(device)
    layout = choose_layout(encoder, "auto", "auto", torch.float32, device)
    classifier = ReadClassifier(
        encoder,
        hidden_size=encoder.config.hidden_size,
        classes=CLASSES,
        pooling="mean",
        dropout=0.0,
        keys=TokenKeys(),
        compute_dtype=torch.float32,
    )
    return classifier.to(device), layout


class PaddedClassifier(nn.Module):
    """Every read a row under an attention mask, masked mean, linear head: with 512 tokens the earlier behaviour."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_size, CLASSES).to(encoder.device)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """``(reads, width)`` twice to ``(reads, classes)``."""
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).float()
        return self.head((hidden * weights).sum(1) / weights.sum(1))


def padded_rows(
    segments: Sequence[np.ndarray[Any, Any]], width: int = PADDED_TOKENS
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, ``(reads, width)`` each."""
    ids = torch.zeros(len(segments), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, segment in enumerate(segments):
        ids[row, : len(segment)] = torch.from_numpy(segment)
        mask[row, : len(segment)] = 1
    return ids, mask


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return {
        "device": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
    }


def record(figures: dict[str, Any], path: Path | None) -> None:
    """Write the figures as JSON where a path was given."""
    if path is not None:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
