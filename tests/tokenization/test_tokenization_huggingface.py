"""Hugging Face tokenizers: METAGENE-1's, and small ones of the other kinds made on the spot."""

from __future__ import annotations

import itertools
import json
import random
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from metagene_classifier.errors import TokenizerError
from metagene_classifier.hub import RESOURCES
from metagene_classifier.reads.cleaning import clean_sequence
from metagene_classifier.tokenization.huggingface import load_huggingface
from metagene_classifier.tokenization.saved import load_saved_tokenizer, save_tokenizer
from metagene_classifier.tokenization.tokenizer import ReadTokenizer

SHIPPED = RESOURCES / "tokenizers" / "metagene-1"
TOKENIZER = load_huggingface(SHIPPED, "metagene-ai/METAGENE-1")


def saved(tokenizer: Tokenizer, folder: Path, **specials: str) -> Path:
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "special_tokens_map.json").write_text(json.dumps(specials))
    return folder


@pytest.fixture
def bert_like(tmp_path: Path) -> Path:
    """CLS and SEP around the read, byte-pair merges, and a truncation that has to be ignored."""
    vocabulary = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", *"ACGTN", "AC", "ACG"]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={text: token for token, text in enumerate(vocabulary)},
            merges=[("A", "C"), ("AC", "G")],
            unk_token="[UNK]",
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(pad_id=3, pad_token="[PAD]", length=8)
    return saved(tokenizer, tmp_path, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")


@pytest.fixture
def six_mers(tmp_path: Path) -> Path:
    """What Nucleotide Transformer has: no tokenizer.json, a vocabulary of 6-mers, CLS before the read alone."""
    words = ["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>"]
    words += ["".join(bases) for bases in itertools.product("ATCG", repeat=6)] + list("ATCGN")
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    names = {"tokenizer_class": "EsmTokenizer", "unk_token": "<unk>", "pad_token": "<pad>", "cls_token": "<cls>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**names, "eos_token": None, "model_max_length": 100}))
    (tmp_path / "config.json").write_text('{"model_type": "esm"}')
    return tmp_path


def test_metagene_1s_special_tokens() -> None:
    assert (TOKENIZER.prefix_ids, TOKENIZER.suffix_ids) == ((3,), (4,))
    assert (TOKENIZER.pad_id, TOKENIZER.unk_id, TOKENIZER.vocab_size) == (0, 1, 1024)
    bare = TOKENIZER.with_specials(add_bos=False, add_eos=False)
    assert (bare.prefix_ids, bare.suffix_ids, bare.special_count) == ((), (), 0)


def test_metagene_1s_ids_are_the_librarys() -> None:
    sequence = "ACGTTGCANNACGT"
    library = Tokenizer.from_file(str(SHIPPED / "tokenizer.json")).encode(sequence).ids
    ids = TOKENIZER.encode_batch([sequence])[0].tolist()
    assert [*TOKENIZER.prefix_ids, *ids, *TOKENIZER.suffix_ids] == library


@settings(deadline=None)
@given(st.lists(st.text("ACGTUNRYacgtun-", max_size=400), max_size=5))
def test_texts_joined_are_the_cleaned_reads_and_ids_are_in_range(reads: list[str]) -> None:
    cleaned = [clean_sequence(read) for read in reads]
    encoded = TOKENIZER.encode_batch(cleaned)
    assert [TOKENIZER.text(ids) for ids in encoded] == cleaned
    assert all(ids.max(initial=0) < TOKENIZER.vocab_size and TOKENIZER.unk_id not in ids for ids in encoded)


def test_a_batch_of_long_reads_is_as_the_reads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metagene_classifier.tokenization.tokenizer.BASES_PER_CALL", 20_000)
    letters = random.Random(2)
    reads = ["".join(letters.choices("ACGT", k=length)) for length in (15_000, 10, 9_000, 0, 30_000, 7)]
    together = TOKENIZER.encode_batch(reads)
    assert [len(ids) for ids in together] == [len(TOKENIZER.encode_batch([read])[0]) for read in reads]
    assert [TOKENIZER.text(ids) for ids in together] == reads
    assert together[0].dtype == np.uint16


def test_12_000_reads_of_150_bp_take_about_a_second() -> None:
    letters = random.Random(3)
    reads = ["".join(letters.choices("ACGT", k=150)) for _ in range(12_000)]
    start = time.perf_counter()
    TOKENIZER.encode_batch(reads)
    assert time.perf_counter() - start < 5  # several times what it takes: other work may run beside the tests


def round_trip(tokenizer: ReadTokenizer, folder: Path) -> ReadTokenizer:
    save_tokenizer(tokenizer, folder)
    return load_saved_tokenizer(folder)


def test_saved_and_loaded_is_equal(tmp_path: Path) -> None:
    assert round_trip(TOKENIZER, tmp_path / "a") == TOKENIZER
    without = TOKENIZER.with_specials(add_bos=True, add_eos=False)
    assert round_trip(without, tmp_path / "b") == without


def test_a_saved_tokenizer_loads_with_transformers(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    save_tokenizer(TOKENIZER, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("ACGTACGT")["input_ids"] == [3, *TOKENIZER.encode_batch(["ACGTACGT"])[0].tolist(), 4]
    assert (loaded.pad_token_id, loaded.eos_token_id) == (0, 4)


def test_another_tokenizer_in_a_saved_folder_is_refused(tmp_path: Path, bert_like: Path) -> None:
    save_tokenizer(TOKENIZER, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_bytes((bert_like / "tokenizer.json").read_bytes())
    with pytest.raises(TokenizerError, match="not the one that was saved"):
        load_saved_tokenizer(tmp_path / "model")


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "damaged"), ('{"schema_version": 1}', "damaged"), (None, "no such file")],
)
def test_a_damaged_saved_folder_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    save_tokenizer(TOKENIZER, tmp_path)
    facts = tmp_path / "read_tokenizer.json"
    facts.unlink() if text is None else facts.write_text(text)
    with pytest.raises(TokenizerError, match=said):
        load_saved_tokenizer(tmp_path)


def test_a_folder_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    save_tokenizer(TOKENIZER, tmp_path)
    facts = json.loads((tmp_path / "read_tokenizer.json").read_text())
    (tmp_path / "read_tokenizer.json").write_text(json.dumps({**facts, "schema_version": 99}))
    with pytest.raises(TokenizerError, match="newer version"):
        load_saved_tokenizer(tmp_path)


def test_cls_and_sep_stand_around_the_read(bert_like: Path, tmp_path: Path) -> None:
    tokenizer = load_huggingface(bert_like, "bert-like")
    assert (tokenizer.prefix_ids, tokenizer.suffix_ids, tokenizer.pad_id, tokenizer.unk_id) == ((1,), (2,), 3, 0)
    assert round_trip(tokenizer, tmp_path / "model") == tokenizer


def test_the_files_own_truncation_and_padding_are_ignored(bert_like: Path) -> None:
    tokenizer = load_huggingface(bert_like, "bert-like")
    assert [len(ids) for ids in tokenizer.encode_batch(["T" * 50, "T"])] == [50, 1]


def test_the_name_changes_nothing_in_the_fingerprint_and_the_merges_do(bert_like: Path) -> None:
    first = load_huggingface(bert_like, "one name").fingerprint
    assert load_huggingface(bert_like, "another").fingerprint == first
    text = json.loads((bert_like / "tokenizer.json").read_text())
    text["model"]["merges"].reverse()
    (bert_like / "tokenizer.json").write_text(json.dumps(text))
    assert load_huggingface(bert_like, "one name").fingerprint != first


def test_pieces_of_words_and_byte_level_texts_join_to_the_read(tmp_path: Path) -> None:
    pieces = Tokenizer(
        models.WordPiece(
            vocab={"[UNK]": 0, "A": 1, "##C": 2, "##GT": 3, "##A": 4, "##G": 5, "##T": 6}, unk_token="[UNK]"
        )
    )
    (tmp_path / "pieces").mkdir()
    tokenizer = load_huggingface(saved(pieces, tmp_path / "pieces"), "pieces")
    assert tokenizer.text(tokenizer.encode_batch(["ACGTA"])[0]) == "ACGTA"
    with_decoder = Tokenizer(models.BPE(vocab={"Ġ": 0, "A": 1, "C": 2, "G": 3, "T": 4}, merges=[]))
    with_decoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    with_decoder.decoder = decoders.ByteLevel()
    (tmp_path / "bytes").mkdir()
    tokenizer = load_huggingface(saved(with_decoder, tmp_path / "bytes"), "bytes")
    assert tokenizer.text(tokenizer.encode_batch(["ACGTA"])[0]) == "ACGTA"


def test_a_tokenizer_that_only_transformers_has(
    six_mers: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tokenizer = load_huggingface(six_mers, "six-mers")
    assert (tokenizer.prefix_ids, tokenizer.suffix_ids, tokenizer.pad_id, tokenizer.unk_id) == ((3,), (), 1, 0)
    reads = ["ACGTNACGTGTCANNA" * 20, "", "ACGTAC"]
    encoded = tokenizer.encode_batch(reads)
    assert [tokenizer.text(ids) for ids in encoded] == reads
    assert [len(ids) for ids in encoded[1:]] == [0, 1]
    assert round_trip(tokenizer, tmp_path / "model") == tokenizer
    assert "longer than" not in capfd.readouterr().err


def test_a_tokenizer_that_does_not_know_dna_is_refused(tmp_path: Path) -> None:
    words = Tokenizer(models.WordLevel(vocab={"[UNK]": 0, "hello": 1}, unk_token="[UNK]"))
    with pytest.raises(TokenizerError, match="does not know plain DNA"):
        load_huggingface(saved(words, tmp_path, unk_token="[UNK]"), "words")


def test_damage_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{\n "model": {\n')
    with pytest.raises(TokenizerError, match=r"tokenizer\.json, line 3: not JSON"):
        load_huggingface(tmp_path, "cut short")
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "NoSuchModel"}}')
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: the tokenizer cannot be loaded"):
        load_huggingface(tmp_path, "unknown")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(TokenizerError, match="holds no tokenizer"):
        load_huggingface(tmp_path, "bare")
