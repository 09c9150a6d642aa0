"""Which tokenizer goes with which encoder."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from metagene_classifier.errors import EncoderError, TokenizerError
from metagene_classifier.hub import METAGENE_1, RESOURCES
from metagene_classifier.tokenization.choice import check_fits, choose_tokenizer, context_of, vocabulary_of
from metagene_classifier.tokenization.huggingface import load_huggingface
from metagene_classifier.tokenization.minbpe import load_minbpe
from metagene_classifier.tokenization.tokenizer import ReadTokenizer

SHIPPED_HF = RESOURCES / "tokenizers" / "metagene-1"
SHIPPED_MINBPE = RESOURCES / "tokenizers" / "minbpe" / "large-mgfm-1024.model"
METAGENE = load_huggingface(SHIPPED_HF, METAGENE_1).fingerprint
MINBPE = load_minbpe(SHIPPED_MINBPE).fingerprint


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("asked the hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """An encoder's folder without a tokenizer."""
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama", "vocab_size": 2000}')
    return folder


@pytest.fixture
def own(bare: Path) -> Path:
    """An encoder's folder with a Hugging Face tokenizer that is not METAGENE-1's."""
    vocabulary = {text: token for token, text in enumerate(["[UNK]", *"ACGTN"])}
    Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]")).save(str(bare / "tokenizer.json"))
    return bare


class Choice:
    def __init__(self) -> None:
        self.told: list[str] = []

    def __call__(self, name: str, encoder: str | Path, *, hf: bool = True, new: bool = False) -> ReadTokenizer:
        return choose_tokenizer(
            name_or_path=name,
            use_hf_tokenizer=hf,
            encoder=str(encoder),
            revision=None,
            encoder_is_new=new,
            add_bos=True,
            add_eos=True,
            trust_remote_code=False,
            tell=self.told.append,
        )


@pytest.fixture
def choose() -> Choice:
    return Choice()


@pytest.mark.parametrize("name", [METAGENE_1, "builtin:metagene-1", str(SHIPPED_HF)])
@pytest.mark.parametrize("encoder", [METAGENE_1, "builtin:metagene-1", "builtin:llama-tiny"])
def test_metagene_1s_tokenizer_is_at_hand_without_network(choose: Choice, name: str, encoder: str) -> None:
    assert choose(name, encoder, new="tiny" in encoder).fingerprint == METAGENE
    assert choose.told == []


@pytest.mark.parametrize("name", [METAGENE_1, "minbpe", "builtin:minbpe", str(SHIPPED_MINBPE)])
def test_minbpe_beside_metagene_1_becomes_its_own_tokenizer_and_is_told(choose: Choice, name: str) -> None:
    assert choose(name, METAGENE_1, hf=False).fingerprint == METAGENE
    assert len(choose.told) == 1
    assert "metagene-ai/METAGENE-1 was not trained with the minbpe file" in choose.told[0]


def test_minbpe_goes_with_the_encoder_that_holds_the_same_file(choose: Choice, own: Path) -> None:
    shutil.copy(SHIPPED_MINBPE, own / "tokenizer.model")
    assert choose("minbpe", own, hf=False).fingerprint == MINBPE
    assert choose.told == []


def test_minbpe_beside_an_encoder_with_another_tokenizer_becomes_that_one(choose: Choice, own: Path) -> None:
    assert choose("minbpe", own, hf=False).fingerprint == load_huggingface(own, "own").fingerprint
    assert len(choose.told) == 1


def test_another_minbpe_file_in_the_encoders_folder_is_the_encoders(choose: Choice, bare: Path) -> None:
    (bare / "mine.model").write_text("minbpe v1\n\n0\n65 67\n")
    chosen = choose("minbpe", bare, hf=False)
    assert (chosen.kind, chosen.fingerprint) == ("minbpe", load_minbpe(bare / "mine.model").fingerprint)
    assert len(choose.told) == 1


def test_minbpe_beside_an_encoder_without_a_tokenizer_is_refused(choose: Choice, bare: Path) -> None:
    with pytest.raises(TokenizerError, match="has no tokenizer of its own"):
        choose("minbpe", bare, hf=False)


def test_a_new_encoder_takes_any_tokenizer(choose: Choice, own: Path) -> None:
    assert choose("minbpe", own, hf=False, new=True).fingerprint == MINBPE
    assert choose(METAGENE_1, own, new=True).fingerprint == METAGENE
    assert choose.told == []


def test_bos_and_eos_can_be_left_out() -> None:
    chosen = choose_tokenizer(
        name_or_path=METAGENE_1,
        use_hf_tokenizer=True,
        encoder=METAGENE_1,
        revision=None,
        encoder_is_new=False,
        add_bos=False,
        add_eos=True,
        trust_remote_code=False,
        tell=print,
    )
    assert (chosen.prefix_ids, chosen.suffix_ids) == ((), (4,))


def test_the_default_tokenizer_gives_way_to_an_encoders_own(choose: Choice, own: Path) -> None:
    assert choose(METAGENE_1, own).fingerprint == load_huggingface(own, "own").fingerprint
    assert "its own tokenizer, which is used" in choose.told[0]


def test_another_tokenizer_that_was_named_is_used_and_told(choose: Choice, own: Path) -> None:
    assert choose(str(SHIPPED_HF), own).fingerprint == METAGENE
    assert "is not the tokenizer that" in choose.told[0]


def test_an_encoder_without_a_tokenizer_takes_the_named_one(choose: Choice, bare: Path) -> None:
    assert choose(METAGENE_1, bare).fingerprint == METAGENE
    assert choose.told == []


def test_a_copy_of_metagene_1_needs_no_word(choose: Choice, bare: Path) -> None:
    shutil.copytree(SHIPPED_HF, bare, dirs_exist_ok=True)
    assert choose(METAGENE_1, bare).fingerprint == METAGENE
    assert choose(str(bare), bare).fingerprint == METAGENE
    assert choose.told == []


@pytest.mark.parametrize(
    ("name", "hf", "said"),
    [
        ("./nowhere", True, "tokenizer.name_or_path: ./nowhere: no such folder"),
        ("builtin:metagene", True, "there are builtin:metagene-1 and builtin:minbpe"),
        (str(SHIPPED_MINBPE), True, "set tokenizer.use_hf_tokenizer: false"),
        ("builtin:minbpe", True, "set tokenizer.use_hf_tokenizer: false"),
        ("zhihan1996/DNABERT-2-117M", False, "needs a minbpe .model file in tokenizer.name_or_path"),
        ("gone/large.model", False, "gone/large.model: no such minbpe file"),
        (str(SHIPPED_HF / "tokenizer.json"), False, "line 1: not a minbpe file"),
    ],
)
def test_what_cannot_be_used_is_refused_and_never_replaced(choose: Choice, name: str, hf: bool, said: str) -> None:
    with pytest.raises(TokenizerError, match=re.escape(said)):
        choose(name, METAGENE_1, hf=hf)


def test_an_encoder_named_as_its_own_tokenizer_must_have_one(choose: Choice, bare: Path) -> None:
    with pytest.raises(TokenizerError, match="has no Hugging Face tokenizer"):
        choose(str(bare), bare)


def test_ids_outside_the_encoders_vocabulary_are_refused() -> None:
    minbpe = load_minbpe(SHIPPED_MINBPE)
    with pytest.raises(TokenizerError, match=r"ids up to 1024.*vocabulary ends at 1023"):
        check_fits(minbpe, vocab_size=1024, context=512, max_length=512)
    assert check_fits(minbpe, vocab_size=1025, context=512, max_length=512) == 512
    without = minbpe.with_specials(add_bos=True, add_eos=False)
    assert check_fits(without, vocab_size=1024, context=512, max_length=512) == 512


def test_the_context_shortens_the_length_and_is_told() -> None:
    told: list[str] = []
    metagene = load_huggingface(SHIPPED_HF, METAGENE_1)
    assert check_fits(metagene, vocab_size=1024, context=512, max_length=2048, tell=told.append) == 512
    assert "the encoder's context 512" in told[0]
    assert check_fits(metagene, vocab_size=1024, context=None, max_length=2048, tell=told.append) == 2048
    assert len(told) == 1
    with pytest.raises(TokenizerError, match="no room in 2 tokens"):
        check_fits(metagene, vocab_size=1024, context=2, max_length=512)


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"model_type": "llama", "max_position_embeddings": 512}, 512),
        ({"model_type": "gpt2", "n_positions": 1024}, 1024),
        ({"model_type": "esm", "max_position_embeddings": 1002, "pad_token_id": 1}, 1000),
        ({"model_type": "mamba"}, None),
    ],
)
def test_the_context_of_an_encoder(config: dict[str, Any], context: int | None) -> None:
    assert context_of(config) == context


def test_an_encoder_that_does_not_tell_its_vocabulary() -> None:
    assert vocabulary_of(json.loads('{"vocab_size": 7}'), "mine") == 7
    with pytest.raises(EncoderError, match=r"mine: config\.json has no vocab_size"):
        vocabulary_of({}, "mine")
