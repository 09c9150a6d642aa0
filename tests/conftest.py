"""What several stages' tests share: tiny encoders as a user would have them in folders, and a few labelled reads."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")

# Weights far wider than a library's own: with those, attention is so even that one read leaking into the next
# would hardly show.
WIDE = 0.3


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory) -> Iterator[None]:
    """No test reads or writes the cache in the user's home, those that start processes included."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MGC_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("MGC_NO_CACHE", raising=False)
        yield


@dataclass(frozen=True)
class LabelledFiles:
    """Files of labelled reads: three classes of different composition, most reads in pairs."""

    train_fasta: Path
    val_fasta: Path
    mapping_tsv: Path


@pytest.fixture(scope="session")
def llama_encoder(tmp_path_factory) -> Path:
    """A Llama of two layers with METAGENE-1's tokenizer, saved as METAGENE-1 is: with its language-model head."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        initializer_range=WIDE,
        pad_token_id=0,
        bos_token_id=3,
        eos_token_id=4,
        tie_word_embeddings=False,
    )
    return _saved(LlamaForCausalLM, config, tmp_path_factory.mktemp("encoders") / "tiny-llama")


@pytest.fixture(scope="session")
def bert_encoder(tmp_path_factory) -> Path:
    """A BERT of two layers, saved as a masked language model is: without a pooler."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=1024,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        initializer_range=WIDE,
        pad_token_id=0,
    )
    return _saved(BertForMaskedLM, config, tmp_path_factory.mktemp("encoders") / "tiny-bert")


def _saved(kind, config, folder: Path) -> Path:
    import torch

    from metagene_classifier.hub import RESOURCES
    from metagene_classifier.model.quiet import quiet_transformers

    with torch.random.fork_rng(), quiet_transformers():
        torch.manual_seed(20261124)
        kind(config).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(RESOURCES / "tokenizers" / "metagene-1" / name, folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer():
    """METAGENE-1's own."""
    from metagene_classifier.hub import RESOURCES
    from metagene_classifier.tokenization.huggingface import load_huggingface

    return load_huggingface(RESOURCES / "tokenizers" / "metagene-1", "metagene-1")


@pytest.fixture(scope="session")
def labelled_files(tmp_path_factory) -> LabelledFiles:
    """24 pairs of reads to train on and 6 to validate with, of 60 to 150 bases."""
    folder = tmp_path_factory.mktemp("reads")
    mapping = folder / "mapping.tsv"
    mapping.write_text(
        "class_id\tlabel_name\ttax_id\n0\tEscherichia coli\t562\n1\tBacillus subtilis\t1423\n2\tphiX174\t10847\n"
    )
    bases = random.Random(0)
    train, val = folder / "train.fa", folder / "val.fa"
    train.write_text(_pairs(bases, 8))
    val.write_text(_pairs(bases, 2))
    return LabelledFiles(train, val, mapping)


def _pairs(bases: random.Random, pairs_per_class: int) -> str:
    taxids, weights = (562, 1423, 10847), ((4, 1, 1, 4), (1, 4, 4, 1), (1, 1, 1, 1))
    records = []
    for pair in range(pairs_per_class):
        for class_id, (taxid, weight) in enumerate(zip(taxids, weights, strict=True)):
            for mate in (1, 2):
                length = bases.randint(60, 150)
                sequence = "".join(bases.choices("ACGT", weight, k=length))
                records.append(f">lbl|{class_id}|{taxid}|{length}|pair {pair}/{mate}\n{sequence}\n")
    return "".join(records)
