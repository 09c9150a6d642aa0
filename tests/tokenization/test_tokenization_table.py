"""The table that encodes many reads at once gives the library's ids, whatever the merges and the reads are."""

from __future__ import annotations

import json
import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from metagene_classifier.hub import RESOURCES
from metagene_classifier.reads.base_codes import CODES_OF_BYTES
from metagene_classifier.tokenization import bpe_automaton, bpe_encoding, table_lane
from metagene_classifier.tokenization.bpe_automaton import build_automaton, valid_pairs
from metagene_classifier.tokenization.bpe_encoding import BpeTable
from metagene_classifier.tokenization.bpe_rules import BpeRules, NotPlainError, read_rules, rules_of
from metagene_classifier.tokenization.huggingface import load_huggingface
from metagene_classifier.tokenization.minbpe import load_minbpe
from metagene_classifier.tokenization.table_lane import TableLane
from metagene_classifier.tokenization.tokenizer import ReadTokenizer

SHIPPED = RESOURCES / "tokenizers"


def metagene_1() -> ReadTokenizer:
    return load_huggingface(SHIPPED / "metagene-1", "metagene-ai/METAGENE-1")


def codes_of(sequences: list[str]) -> np.ndarray:
    return np.frombuffer("".join(sequences).encode().translate(CODES_OF_BYTES), np.uint8)


def by_library(tokenizer: Tokenizer, sequences: list[str]) -> list[list[int]]:
    return [one.ids for one in tokenizer.encode_batch_fast(sequences, add_special_tokens=False)]


def by_table(table: BpeTable, sequences: list[str]) -> list[list[int]]:
    ids, lengths = table.encode(codes_of(sequences), np.array(list(map(len, sequences)), np.int64))
    ends = np.cumsum(lengths)
    assert len(ids) == lengths.sum()
    return [ids[end - length : end].tolist() for end, length in zip(ends, lengths, strict=True)]


def model_rules(tokenizer: Tokenizer) -> BpeRules:
    model = json.loads(tokenizer.to_str())["model"]
    return rules_of(model["vocab"], [tuple(pair) for pair in model["merges"]], None)


@st.composite
def trained(draw: st.DrawFn) -> Tokenizer:
    """A vocabulary trained on a few texts; repeats make merges of like letters and tokens with several derivations."""
    letters = draw(st.sampled_from(["ACGTN", "ACGT", "AC", "A", "AN"]))
    texts = draw(st.lists(st.text(letters, min_size=1, max_size=60), min_size=1, max_size=5))
    tokenizer = Tokenizer(models.BPE())
    size = draw(st.integers(6, 50))
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=1, initial_alphabet=list("ACGTN"), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


@st.composite
def invented(draw: st.DrawFn) -> Tokenizer:
    """Merges in any order after their parts, as no training would choose them."""
    texts, merges = list("ACGTN"), []
    for _ in range(draw(st.integers(1, 25))):
        usual = [text for text in texts if set(text) <= set("ACG")]
        pair = (draw(st.sampled_from(usual)), draw(st.sampled_from(usual)))
        if pair not in merges and len("".join(pair)) <= 12:
            merges.append(pair)
            if "".join(pair) not in texts:
                texts.append("".join(pair))
    return Tokenizer(models.BPE(vocab={text: 100 + place for place, text in enumerate(texts)}, merges=merges))


@st.composite
def read_lists(draw: st.DrawFn) -> list[str]:
    """Reads at random and reads of a repeated motif, of a few segments and shorter ones."""
    bases = random.Random(draw(st.integers(0, 2**32)))
    letters = draw(st.sampled_from(["ACGTN", "ACG", "AC", "A"]))
    reads = ["".join(bases.choices(letters, k=length)) for length in draw(st.lists(st.integers(0, 90), max_size=8))]
    motif = "".join(bases.choices(letters, k=bases.randint(1, 6)))
    return [*reads, *((motif * 90)[:length] for length in draw(st.lists(st.integers(0, 90), max_size=4)))]


@settings(deadline=None, max_examples=200)
@given(trained() | invented(), read_lists(), st.integers(0, 4), st.booleans())
def test_any_byte_pair_encoding_of_any_reads(
    tokenizer: Tokenizer, reads: list[str], overlap_bp: int, abreast: bool
) -> None:
    try:
        rules = model_rules(tokenizer)
    except NotPlainError:
        return
    with pytest.MonkeyPatch.context() as patch:
        # Short segments with short overlaps, in small blocks and portions, so that every border is met.
        patch.setattr(bpe_encoding, "SEGMENT_BP", 16)
        patch.setattr(bpe_encoding, "OVERLAP_BP", overlap_bp)
        patch.setattr(bpe_encoding, "CELLS", 60)
        patch.setattr(bpe_encoding, "BASES_AT_ONCE", 100)
        patch.setattr(bpe_encoding, "MANY_FOR_ONE", 2)
        patch.setattr(bpe_encoding, "FEWEST_ABREAST", 1 if abreast else 100)
        patch.setattr(bpe_encoding, "_WALK_BASES", 7)
        assert by_table(BpeTable(build_automaton(rules)), reads) == by_library(tokenizer, reads)


@pytest.mark.parametrize(
    ("merges", "read"),
    [
        ([("A", "A")], "A" * 77),  # pairs are counted from the start
        # The states are the same at a border, and what tokens end there depends on what comes behind.
        ([("C", "A"), ("A", "CA")], ("CCAACA" * 8)[:43]),
        # The states differ at a border, and tokens end there alike.
        (
            [("A", "C"), ("AC", "AC")],
            "ACAAACACACACACCCCCCCCCCCCACACACACCACCCAAAACACCAACAACACAACACACACAACACCCAAACCCCAA",
        ),
    ],
)
def test_segments_that_do_not_meet_are_noticed(
    merges: list[tuple[str, str]], read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*"ACGTN", *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={text: place for place, text in enumerate(texts)}, merges=merges))
    monkeypatch.setattr(bpe_encoding, "SEGMENT_BP", 16)
    monkeypatch.setattr(bpe_encoding, "OVERLAP_BP", 1)
    monkeypatch.setattr(bpe_encoding, "FEWEST_ABREAST", 1)
    assert by_table(BpeTable(build_automaton(model_rules(tokenizer))), [read]) == by_library(tokenizer, [read])


@settings(deadline=None, max_examples=50)
@given(trained() | invented())
def test_a_pair_is_valid_when_its_text_gives_just_the_two(tokenizer: Tokenizer) -> None:
    try:
        rules = model_rules(tokenizer)
    except NotPlainError:
        return
    assert by_library(tokenizer, list(rules.texts)) == [[token] for token in rules.ids]
    pairs = by_library(tokenizer, [first + second for first in rules.texts for second in rules.texts])
    wanted = [pairs[place] == [a, b] for place, (a, b) in enumerate((a, b) for a in rules.ids for b in rules.ids)]
    assert valid_pairs(rules).ravel().tolist() == wanted


def reads_of_all_kinds() -> list[str]:
    bases = random.Random(5)
    reads = ["".join(bases.choices("ACGTN", (30, 30, 30, 30, 1), k=length)) for length in [150] * 3_000 + [0, 1, 2, 3]]
    reads += ["".join(bases.choices("ACGT", k=length)) for length in (70_000, 1_025, 1_024, 5_000)]
    # Segments of these never meet: what a token begins with is decided at the start.
    reads += ["A" * 20_000, "N" * 5_000, "ACGTACGTAG" * 700, "AT" * 4_000, ""]
    reads += ["N" * 150, "G" + "N" * 148 + "A"]  # many more tokens than the others of their length
    bases.shuffle(reads)
    return reads


@pytest.mark.parametrize("load", [metagene_1, lambda: load_minbpe(SHIPPED / "minbpe" / "large-mgfm-1024.model")])
def test_the_shipped_tokenizers_get_a_table_with_the_librarys_ids(load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_lane, "BASES_PER_TOKEN", 0)
    tokenizer = load()
    reads = reads_of_all_kinds()
    wanted = tokenizer.engine.encode(reads)
    ids, lengths = tokenizer.encode_flat(reads)
    assert tokenizer.lane.table_for(0) is not None
    assert (ids.dtype, lengths.dtype) == (np.uint16, np.int64)
    assert lengths.tolist() == list(map(len, wanted))
    assert ids.tolist() == [token for one in wanted for token in one]
    assert [one.tolist() for one in tokenizer.encode_batch(reads)] == wanted
    again = tokenizer.encode_codes(codes_of(reads), np.array(list(map(len, reads))))
    assert np.array_equal(again[0], ids) and np.array_equal(again[1], lengths)


def test_few_reads_do_not_wait_for_a_table_and_get_the_same_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = ["ACGTACGTTGCAN" * 3, "", "GATTACA"]
    bases = np.array([39, 0, 7])
    monkeypatch.setattr(table_lane, "BASES_PER_TOKEN", 3 * 46 / 1024)
    tokenizer = metagene_1()
    few = [tokenizer.encode_flat(reads), tokenizer.encode_codes(codes_of(reads), bases)]
    assert tokenizer.lane.table_for(0) is None and tokenizer.lane.refused is None
    tabled = [tokenizer.encode_flat(reads), tokenizer.encode_codes(codes_of(reads), bases)]
    assert tokenizer.lane.table_for(0) is not None
    wanted = tokenizer.engine.encode(reads)
    for ids, lengths in few + tabled:
        assert (ids.dtype, lengths.dtype) == (np.uint16, np.int64)
        assert ids.tolist() == [token for one in wanted for token in one]
        assert lengths.tolist() == list(map(len, wanted))


@pytest.mark.parametrize("with_table", [True, False])
def test_no_reads_have_no_tokens(with_table: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_lane, "BASES_PER_TOKEN", 0 if with_table else 10**9)
    tokenizer = metagene_1()
    assert tokenizer.encode_batch([]) == []
    for reads in ([], [""] * 100):
        for ids, lengths in (
            tokenizer.encode_flat(reads),
            tokenizer.encode_codes(np.zeros(0, np.uint8), np.zeros(len(reads), np.int64)),
        ):
            assert ids.tolist() == [] and lengths.tolist() == [0] * len(reads)


@pytest.mark.parametrize(("codes", "bases"), [([0, 5], [2]), ([0, 1], [1]), ([0, 1], [2, 1])])
def test_codes_that_are_no_reads_are_a_bug_of_the_caller(codes: list[int], bases: list[int]) -> None:
    with pytest.raises(ValueError, match="codes from 0 to 4"):
        metagene_1().encode_codes(np.array(codes, np.uint8), np.array(bases))


def test_letters_that_are_not_cleaned_are_left_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_lane, "BASES_PER_TOKEN", 0)
    tokenizer = metagene_1()
    for reads in (["ACGTxACG", "ACGT"], ["ACGTé"]):
        assert [ids.tolist() for ids in tokenizer.encode_batch(reads)] == tokenizer.engine.encode(reads)


def test_special_tokens_on_or_off_share_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_lane, "BASES_PER_TOKEN", 0)
    tokenizer = metagene_1()
    bare = tokenizer.with_specials(add_bos=False, add_eos=False)
    bare.encode_flat(["ACGT"])
    assert bare.lane.table_for(0) is tokenizer.lane.table_for(0) is not None


def test_threads_at_once_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_lane, "BASES_PER_TOKEN", 20)
    reads = reads_of_all_kinds()
    wanted = metagene_1().encode_flat(reads)
    tokenizer = metagene_1()
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: tokenizer.encode_flat(reads), range(8)))
    assert all(np.array_equal(ids, wanted[0]) and np.array_equal(counts, wanted[1]) for ids, counts in results)


@pytest.mark.parametrize("with_table", [True, False])
def test_a_tokenizer_goes_to_another_process(with_table: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_lane, "BASES_PER_TOKEN", 0 if with_table else 1)
    tokenizer = metagene_1()
    tokenizer.encode_flat(["ACGT"])
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy == tokenizer
    assert (copy.lane._table is not None) == with_table
    assert copy.encode_flat(["ACGTN" * 40])[0].tolist() == tokenizer.engine.encode(["ACGTN" * 40])[0]


MERGES = [("A", "C"), ("AC", "G"), ("G", "T")]


def plain(**changed) -> Tokenizer:
    letters = changed.pop("letters", "ACGTN")
    vocabulary = {text: place for place, text in enumerate(["[UNK]", *letters, "AC", "ACG", "GT"])}
    return Tokenizer(models.BPE(vocab=vocabulary, merges=changed.pop("merges", MERGES), **changed))


def with_step(name: str, step: object) -> Tokenizer:
    tokenizer = plain()
    setattr(tokenizer, name, step)
    return tokenizer


def with_token(token: AddedToken) -> Tokenizer:
    tokenizer = plain()
    tokenizer.add_tokens([token])
    return tokenizer


PLAIN = {
    "as it is": plain(),
    "an unknown letter with its token": plain(letters="ACGT", unk_token="[UNK]"),
    "white space parts words": with_step("pre_tokenizer", pre_tokenizers.Whitespace()),
    "letters in one word": with_step("pre_tokenizer", pre_tokenizers.Split(Regex(r"\p{L}+|\s+"), "isolated")),
    "a harmless normalizer": with_step("normalizer", normalizers.Sequence([normalizers.NFC(), normalizers.Strip()])),
    "an added token": with_token(AddedToken("[MASK]")),
}


@pytest.mark.parametrize("tokenizer", PLAIN.values(), ids=PLAIN)
def test_plain_byte_pair_encodings_get_a_table(tokenizer: Tokenizer) -> None:
    reads = ["ACGTN", "GTACACGNNA", "", *reads_of_all_kinds()[:50]]
    assert by_table(BpeTable(build_automaton(read_rules(tokenizer))), reads) == by_library(tokenizer, reads)


REFUSED = {
    "WordLevel": (Tokenizer(models.WordLevel({"A": 0, "[UNK]": 1}, unk_token="[UNK]")), "a WordLevel model"),
    "Unigram": (Tokenizer(models.Unigram([("A", 0.0), ("C", 0.0)])), "a Unigram model"),
    "dropout": (plain(dropout=0.1), "dropout"),
    "ignore_merges": (plain(ignore_merges=True), "ignore_merges"),
    "byte_fallback": (plain(byte_fallback=True), "byte_fallback"),
    "prefixes": (with_step("model", models.BPE({"A": 0}, [], continuing_subword_prefix="##")), "continuing"),
    "suffixes": (with_step("model", models.BPE({"A": 0}, [], end_of_word_suffix="</w>")), "end_of_word_suffix"),
    "byte level": (with_step("pre_tokenizer", pre_tokenizers.ByteLevel()), "pre_tokenizer is ByteLevel"),
    "codons": (with_step("pre_tokenizer", pre_tokenizers.Split(Regex("[ACGT]{3}"), "isolated")), "parts DNA"),
    "long pieces": (with_step("pre_tokenizer", pre_tokenizers.Split(Regex(".{1,90000}"), "isolated")), "parts DNA"),
    "lower case": (with_step("normalizer", normalizers.BertNormalizer(lowercase=True)), "changes letters"),
    "replaced": (with_step("normalizer", normalizers.Replace("N", "A")), "normalizer is Replace"),
    "an added motif": (with_token(AddedToken("ACGTA")), "added token 'ACGTA'"),
    "a letter that it lacks": (plain(letters="ACGT"), "does not know the letter N"),
    "unknown letters joined": (plain(letters="ACGT", unk_token="[UNK]", fuse_unk=True), "joins unknown letters"),
    "a merge too early": (plain(merges=[MERGES[1], MERGES[0], MERGES[2]]), "before those of its parts"),
}


@pytest.mark.parametrize(("tokenizer", "said"), REFUSED.values(), ids=REFUSED)
def test_whatever_is_not_plain_is_left_to_the_library(tokenizer: Tokenizer, said: str) -> None:
    with pytest.raises(NotPlainError, match=said):
        read_rules(tokenizer)


def test_a_table_too_large_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = read_rules(plain())
    states = len(build_automaton(rules).next_state)
    monkeypatch.setattr(bpe_automaton, "MAX_STATES", states - 1)
    with pytest.raises(NotPlainError, match="states"):
        build_automaton(rules)
    monkeypatch.setattr(bpe_automaton, "MAX_TOKENS", 7)
    with pytest.raises(NotPlainError, match="8 tokens of DNA"):
        build_automaton(rules)


def test_a_table_that_differs_from_the_library_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(rules: BpeRules) -> bpe_automaton.BpeAutomaton:
        right = build_automaton(rules)
        return replace(right, last_id=np.where(right.last_length == right.last_length.max(), 7, right.last_id))

    monkeypatch.setattr(table_lane, "BASES_PER_TOKEN", 0)
    monkeypatch.setattr(bpe_automaton, "build_automaton", wrong)
    tokenizer = metagene_1()
    reads = reads_of_all_kinds()
    assert [ids.tolist() for ids in tokenizer.encode_batch(reads)] == tokenizer.engine.encode(reads)
    assert tokenizer.lane.refused == "its table and the library give different ids"


def test_a_tokenizer_in_python_is_asked_itself() -> None:
    lane = TableLane(None)
    assert lane.table_for(10**9) is None
    assert lane.refused == "a tokenizer in Python"


def test_a_pattern_of_a_minbpe_file_that_parts_reads_is_kept_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_lane, "BASES_PER_TOKEN", 0)
    path = tmp_path / "mine.model"
    path.write_text("minbpe v1\n[ACGT]{2}|[ACGT]\n0\n65 67\n256 71\n")
    tokenizer = load_minbpe(path)
    assert tokenizer.encode_batch(["ACGAC", "ACG"])[0].tolist() == [256, 71, 65, 67]
    assert tokenizer.lane.refused == "its pre-tokenizer parts DNA"
