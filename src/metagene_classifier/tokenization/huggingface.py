"""Hugging Face tokenizers: ``tokenizer.json`` through the ``tokenizers`` library, all others through transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from metagene_classifier.errors import TokenizerError
from metagene_classifier.tokenization.minbpe import is_minbpe_file
from metagene_classifier.tokenization.table_lane import TableLane
from metagene_classifier.tokenization.tokenizer import Engine, ReadTokenizer, fingerprint_of, probe_specials
from metagene_classifier.whole_files import whole_file

__all__ = ["has_tokenizer", "load_huggingface"]

PROBE = "ACGTACGTTGCA"
SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
SPECIALS_FILES = ("special_tokens_map.json", "tokenizer_config.json")
OTHER_FILES = ("tokenizer_config.json", "vocab.txt", "vocab.json")


class _RustEngine:
    """A tokenizer of the ``tokenizers`` library.

    Args:
        tokenizer: truncates and pads nothing after this.
        specials: the texts of its special tokens, by their Hugging Face names.
    """

    def __init__(self, tokenizer: Tokenizer, specials: Mapping[str, str]) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.library: Tokenizer | None = tokenizer
        self._tokenizer = tokenizer
        self._specials = dict(specials)
        continuing = getattr(tokenizer.model, "continuing_subword_prefix", None) or ""
        vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
        self._texts = {token: text.removeprefix(continuing) for text, token in vocabulary.items()}

    def encode(self, sequences: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(sequences, add_special_tokens=False)]

    def text(self, ids: Sequence[int]) -> str:
        if self._tokenizer.decoder is not None:
            decoded: str = self._tokenizer.decode(ids, skip_special_tokens=False)
            return "".join(decoded.split())
        return "".join(self._texts[token] for token in ids)

    def write(self, folder: Path) -> None:
        with whole_file(folder / "tokenizer.json") as handle:
            handle.write(self._tokenizer.to_str(pretty=True))
        # With these two files transformers' AutoTokenizer reads the folder as well.
        with whole_file(folder / "tokenizer_config.json") as handle:
            json.dump({"tokenizer_class": "PreTrainedTokenizerFast", **self._specials}, handle, indent=2)


class _PythonEngine:
    """A tokenizer that transformers has in Python alone."""

    def __init__(self, tokenizer: Any) -> None:
        self.library: Tokenizer | None = None
        self._tokenizer = tokenizer

    def encode(self, sequences: list[str]) -> list[list[int]]:
        encoded = self._tokenizer(sequences, add_special_tokens=False, truncation=False, padding=False, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def text(self, ids: Sequence[int]) -> str:
        return "".join(self._tokenizer.convert_ids_to_tokens(ids))

    def write(self, folder: Path) -> None:
        self._tokenizer.save_pretrained(folder)


def has_tokenizer(folder: Path) -> bool:
    """True for a folder that holds a Hugging Face tokenizer of its own."""
    if (folder / "tokenizer.json").is_file() or any((folder / name).is_file() for name in OTHER_FILES):
        return True
    return any(not is_minbpe_file(path) for path in folder.glob("*.model"))


def load_huggingface(folder: Path, name: str, *, trust_remote_code: bool = False) -> ReadTokenizer:
    """Load the tokenizer that a folder holds.

    Args:
        folder: with ``tokenizer.json``, or files that transformers can load.
        name: what to call it in messages.
        trust_remote_code: allow Python code of the folder to run.

    Raises:
        TokenizerError: there is none, it is damaged, or it does not know plain DNA.
    """
    path = folder / "tokenizer.json"
    if path.is_file():
        return _from_rust(_read_json_tokenizer(path), _read_specials(folder), name)
    if not has_tokenizer(folder):
        raise TokenizerError(f"{name}: holds no tokenizer: name one that does in tokenizer.name_or_path")
    with _clear_errors(name):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trust_remote_code, local_files_only=True, use_fast=True
        )
    specials = {key: str(value) for key in SPECIAL_NAMES if (value := getattr(tokenizer, key, None)) is not None}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if isinstance(backend, Tokenizer):
        return _from_rust(backend, specials, name)
    with _clear_errors(name):
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        full = tokenizer(PROBE)["input_ids"]
    return _assemble(_PythonEngine(tokenizer), name, specials, vocabulary, full, {"merges": None})


def _from_rust(tokenizer: Tokenizer, specials: Mapping[str, str], name: str) -> ReadTokenizer:
    engine = _RustEngine(tokenizer, specials)
    vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    model = json.loads(tokenizer.to_str())["model"]
    # The library has written a merge both as "A C" and as ["A", "C"].
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model.get("merges") or []]
    scores = model["vocab"] if isinstance(model.get("vocab"), list) else None
    unknown = model.get("unk_token")
    if unknown is not None:
        specials = {"unk_token": unknown, **specials}
    return _assemble(
        engine, name, specials, vocabulary, tokenizer.encode(PROBE).ids, {"merges": merges, "scores": scores}
    )


def _assemble(
    engine: Engine,
    name: str,
    specials: Mapping[str, str],
    vocabulary: Mapping[str, int],
    full: list[int],
    facts: Mapping[str, Any],
) -> ReadTokenizer:
    plain = engine.encode([PROBE])[0]
    pad_id = vocabulary.get(specials.get("pad_token", ""))
    unk_id = vocabulary.get(specials.get("unk_token", ""))
    if not plain or all(token == unk_id for token in plain):
        raise TokenizerError(
            f"{name}: does not know plain DNA ({PROBE} is all unknown), so it is no tokenizer of reads"
        )
    prefix, suffix = probe_specials(name, plain, full)
    special_ids = {"pad": pad_id, "unk": unk_id, "prefix": prefix, "suffix": suffix}
    return ReadTokenizer(
        kind="huggingface",
        name=name,
        content_size=max(vocabulary.values()) + 1,
        prefix_ids=prefix,
        suffix_ids=suffix,
        pad_id=pad_id,
        unk_id=unk_id,
        fingerprint=fingerprint_of({"vocabulary": dict(vocabulary), "specials": special_ids, **facts}),
        engine=engine,
        lane=TableLane(engine.library),
    )


def _read_json_tokenizer(path: Path) -> Tokenizer:
    try:
        text = path.read_text(encoding="utf-8")
        json.loads(text)
    except json.JSONDecodeError as error:
        raise TokenizerError(f"{path}, line {error.lineno}: not JSON ({error.msg}): fetch or copy it again") from error
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{path}: cannot be read: {error}") from error
    with _clear_errors(str(path)):
        return Tokenizer.from_str(text)


def _read_specials(folder: Path) -> dict[str, str]:
    """The texts of the special tokens, from whichever of the two files names them."""
    specials: dict[str, str] = {}
    for path in (folder / file for file in SPECIALS_FILES):
        if not path.is_file():
            continue
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise TokenizerError(f"{path}: not JSON ({error}): fetch or copy it again") from error
        for key in SPECIAL_NAMES:
            value = values.get(key) if isinstance(values, dict) else None
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                specials.setdefault(key, text)
    return specials


@contextmanager
def _clear_errors(name: str) -> Iterator[None]:
    """What the libraries raise (they raise anything) as one line."""
    try:
        yield
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TokenizerError(f"{name}: the tokenizer cannot be loaded: {first_line}") from error
