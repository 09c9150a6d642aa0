"""minbpe files: the same ids as minbpe's own code gives, and damage told with its line."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_classifier.errors import TokenizerError
from metagene_classifier.hub import RESOURCES
from metagene_classifier.reads.files import read_records
from metagene_classifier.tokenization.minbpe import load_minbpe
from metagene_classifier.tokenization.saved import load_saved_tokenizer, save_tokenizer

SHIPPED = RESOURCES / "tokenizers" / "minbpe" / "large-mgfm-1024.model"
READS = Path(__file__).parents[2] / "data" / "reads" / "ecoli_illumina_spades1k_R1.fastq.gz"
TOKENIZER = load_minbpe(SHIPPED)

dna = st.text("ACGTN", max_size=400)


def reference_merges() -> dict[tuple[int, int], int]:
    lines = SHIPPED.read_text().splitlines()[4:]
    return {tuple(map(int, line.split())): 256 + place for place, line in enumerate(lines)}  # type: ignore[misc]


MERGES = reference_merges()


def reference_encode(sequence: str) -> list[int]:
    """minbpe's ``_encode_chunk``: replace the pair that was merged first everywhere, until none is left."""
    ids = list(sequence.encode())
    while len(ids) >= 2:
        pair = min(itertools.pairwise(ids), key=lambda pair: MERGES.get(pair, float("inf")))
        if pair not in MERGES:
            break
        merged, place = [], 0
        while place < len(ids):
            if tuple(ids[place : place + 2]) == pair:
                merged.append(MERGES[pair])
                place += 2
            else:
                merged.append(ids[place])
                place += 1
        ids = merged
    return ids


@settings(deadline=None)
@given(dna)
def test_ids_are_those_of_minbpe(sequence: str) -> None:
    assert TOKENIZER.encode_batch([sequence])[0].tolist() == reference_encode(sequence)


def test_ids_are_those_of_minbpe_on_sequenced_reads() -> None:
    reads = [read.sequence for read, _ in zip(read_records(READS), range(300), strict=False)]
    assert [ids.tolist() for ids in TOKENIZER.encode_batch(reads)] == [reference_encode(read) for read in reads]


@settings(deadline=None)
@given(st.lists(dna, max_size=5))
def test_texts_joined_are_the_reads_and_ids_are_in_range(sequences: list[str]) -> None:
    encoded = TOKENIZER.encode_batch(sequences)
    assert [TOKENIZER.text(ids) for ids in encoded] == sequences
    assert all(ids.max(initial=0) < TOKENIZER.content_size for ids in encoded)


def test_its_end_token_is_its_only_special_one() -> None:
    assert (TOKENIZER.prefix_ids, TOKENIZER.suffix_ids) == ((), (1024,))
    assert (TOKENIZER.vocab_size, TOKENIZER.pad_id, TOKENIZER.unk_id) == (1025, None, None)
    assert TOKENIZER.text([84, 1024]) == "T<|eos|>"
    without = TOKENIZER.with_specials(add_bos=True, add_eos=False)
    assert (without.suffix_ids, without.vocab_size, without.fingerprint) == ((), 1024, TOKENIZER.fingerprint)


def test_a_megabase_is_encoded() -> None:
    sequence = "".join(random.Random(1).choices("ACGT", k=1_000_000))
    ids = TOKENIZER.encode_batch([sequence])[0]
    assert ids.dtype == np.uint16
    assert TOKENIZER.text(ids) == sequence


def test_saved_and_loaded_is_equal(tmp_path: Path) -> None:
    save_tokenizer(TOKENIZER, tmp_path)
    assert (tmp_path / "minbpe.model").read_bytes() == SHIPPED.read_bytes()
    assert load_saved_tokenizer(tmp_path) == TOKENIZER


WHOLE = ["minbpe v1", r"\p{L}+", "1", "<|eos|> 258", "65 67", "256 71"]


def written(folder: Path, lines: list[str]) -> Path:
    path = folder / "mine.model"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    tokenizer = load_minbpe(written(tmp_path, WHOLE))
    assert tokenizer.encode_batch(["ACGAC"])[0].tolist() == [257, 256]
    assert tokenizer.fingerprint == load_minbpe(written(tmp_path, WHOLE), "another name").fingerprint
    assert tokenizer.fingerprint != load_minbpe(written(tmp_path, [*WHOLE[:3], "<|eos|> 259", *WHOLE[4:]])).fingerprint


def test_the_files_pattern_cuts_reads_before_merging(tmp_path: Path) -> None:
    pairs = load_minbpe(written(tmp_path, [WHOLE[0], "[ACGT]{2}|[ACGT]", *WHOLE[2:]]))
    assert pairs.encode_batch(["ACGAC"])[0].tolist() == [256, 71, 65, 67]


@pytest.mark.parametrize(
    ("line", "text", "said"),
    [
        (1, "minbpe v2", "line 1: not a minbpe file"),
        (2, "(", "line 2: not a pattern"),
        (3, "one", "line 3: expected the number of special tokens"),
        (4, "<|eos|>", "line 4: expected a special token and its id"),
        (4, "<|eos|> 257", "special token <|eos|> has id 257, which a merge has as well"),
        (5, "65", "line 5: expected the two ids of a merge, not '65'"),
        (5, "65 x", "line 5: expected the two ids of a merge"),
        (5, "65 256", "line 5: merges id 256, which is not made before it"),
        (6, "65 67", "tokens 256 and 257 are both 'AC'"),
    ],
)
def test_damage_is_told_with_its_line(tmp_path: Path, line: int, text: str, said: str) -> None:
    lines = list(WHOLE)
    lines[line - 1] = text
    with pytest.raises(TokenizerError, match=re.escape(said)):
        load_minbpe(written(tmp_path, lines))


def test_a_file_cut_short_before_its_merges(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="holds no merges"):
        load_minbpe(written(tmp_path, WHOLE[:4]))
    with pytest.raises(TokenizerError, match="line 3"):
        load_minbpe(written(tmp_path, WHOLE[:2]))
