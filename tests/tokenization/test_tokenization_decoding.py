"""Token ids back to bases: the way back from encoding, or a tokenizer that is told to have none."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers

from metagene_classifier.errors import TokenizerError
from metagene_classifier.hub import RESOURCES
from metagene_classifier.tokenization.huggingface import load_huggingface
from metagene_classifier.tokenization.minbpe import load_minbpe
from metagene_classifier.tokenization.table_lane import TableLane
from metagene_classifier.tokenization.tokenizer import ReadTokenizer

SHIPPED = {
    "metagene-1": load_huggingface(RESOURCES / "tokenizers" / "metagene-1", "metagene-1"),
    "minbpe": load_minbpe(RESOURCES / "tokenizers" / "minbpe" / "large-mgfm-1024.model"),
}
READS = st.lists(st.text("ACGTN", max_size=200), max_size=6)


@pytest.mark.parametrize("name", SHIPPED)
@settings(deadline=None)
@given(reads=READS)
def test_a_reads_tokens_decode_to_the_read(name, reads):
    for read, ids in zip(reads, SHIPPED[name].encode_batch(reads), strict=True):
        assert SHIPPED[name].decode(ids) == read


@pytest.mark.parametrize("name", SHIPPED)
@settings(deadline=None)
@given(reads=READS)
def test_many_reads_at_once_decode_to_the_codes_that_they_were_encoded_from(name, reads):
    tokenizer = SHIPPED[name]
    codes = np.array(["ACGTN".index(base) for base in "".join(reads)], np.uint8)
    bases = np.array([len(read) for read in reads], np.int64)
    found, counts = tokenizer.decode_codes(*tokenizer.encode_codes(codes, bases))
    assert found.tolist() == codes.tolist()
    assert counts.tolist() == bases.tolist()


def test_special_tokens_unknown_ones_and_ids_that_there_are_not_are_no_bases():
    tokenizer = SHIPPED["metagene-1"]
    a_c = [7, 8]
    assert tokenizer.decode(a_c) == "AC"
    for token in (0, 1, 3, 4, 5, 6, 1024, 5000, -1):
        with pytest.raises(TokenizerError, match=f"metagene-1: token {token} is no bases"):
            tokenizer.decode([*a_c, token])
    with pytest.raises(TokenizerError, match="token 97 is no bases"):
        SHIPPED["minbpe"].decode([ord("A"), ord("a")])


@pytest.mark.parametrize("name", SHIPPED)
def test_nothing_is_lost_by_the_tokenizers_that_ship(name):
    assert SHIPPED[name].loses() is None


def loaded(tokenizer: Tokenizer, folder: Path, **specials: str) -> ReadTokenizer:
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "special_tokens_map.json").write_text(json.dumps(specials))
    return load_huggingface(folder, "another")


def bpe_without_n(*, fused: bool) -> Tokenizer:
    vocabulary = {text: token for token, text in enumerate(["[UNK]", *"ACGT", "AC", "ACG"])}
    merges = [("A", "C"), ("AC", "G")]
    return Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="[UNK]", fuse_unk=fused))


def test_an_unknown_token_for_each_n_is_decoded_as_n(tmp_path):
    """So are byte-pair merges that were learned from genomes without N."""
    tokenizer = loaded(bpe_without_n(fused=False), tmp_path, unk_token="[UNK]")
    assert tokenizer.loses() is None
    assert tokenizer.decode(tokenizer.encode_batch(["NACGNNT"])[0]) == "NACGNNT"


def test_one_unknown_token_for_several_n_loses_them(tmp_path):
    assert loaded(bpe_without_n(fused=True), tmp_path, unk_token="[UNK]").loses() == "NN"


def test_non_overlapping_k_mers_lose_nothing(tmp_path):
    words = ["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>"]
    words += ["".join(bases) for bases in itertools.product("ATCG", repeat=3)] + list("ATCGN")
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    names = {"tokenizer_class": "EsmTokenizer", "unk_token": "<unk>", "pad_token": "<pad>", "cls_token": "<cls>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**names, "eos_token": None}))
    (tmp_path / "config.json").write_text('{"model_type": "esm"}')
    assert load_huggingface(tmp_path, "k-mers").loses() is None


class Overlapping:
    """Every 3-mer of a read, one base on from the one before, as DNABERT's are."""

    library = None
    words = ("[UNK]", *("".join(bases) for bases in itertools.product("ACGTN", repeat=3)), *"ACGTN")

    def encode(self, sequences):
        pieces = [[read[at : at + 3] for at in range(len(read) - 2)] or list(read) for read in sequences]
        return [[self.words.index(piece) if piece in self.words else 0 for piece in read] for read in pieces]

    def text(self, ids):
        return "".join(self.words[token] for token in ids)


def test_overlapping_k_mers_are_no_pieces_of_a_read():
    engine = Overlapping()
    tokenizer = replace(
        SHIPPED["metagene-1"], name="k-mers", content_size=len(engine.words), engine=engine, lane=TableLane(None)
    )
    lost = tokenizer.loses()
    assert lost is not None
    ids = tokenizer.encode_batch([lost])[0]
    assert engine.text(ids.tolist()) != lost


def folded() -> Tokenizer:
    """N is read as A."""
    vocabulary = {text: token for token, text in enumerate(["[UNK]", *"ACGT"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Replace("N", "A")
    return tokenizer


def whole_words() -> Tokenizer:
    """A read with an N is one unknown token."""
    vocabulary = {text: token for token, text in enumerate(["[UNK]", *"ACGT", *(f"##{base}" for base in "ACGT")])}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


@pytest.mark.parametrize("made", [folded, whole_words])
def test_what_cannot_be_decoded_exactly_is_named(made, tmp_path):
    lost = loaded(made(), tmp_path, unk_token="[UNK]").loses()
    assert lost is not None and "N" in lost


def test_a_continuing_pieces_own_mark_is_no_part_of_its_bases(tmp_path):
    tokenizer = whole_words()
    tokenizer = loaded(tokenizer, tmp_path, unk_token="[UNK]")
    assert tokenizer.decode(tokenizer.encode_batch(["GATTACA"])[0]) == "GATTACA"
