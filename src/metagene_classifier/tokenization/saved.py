"""A tokenizer's files beside a saved model, and back."""

from __future__ import annotations

import json
from pathlib import Path

from metagene_classifier.errors import TokenizerError
from metagene_classifier.tokenization.huggingface import load_huggingface
from metagene_classifier.tokenization.minbpe import SAVED_NAME, load_minbpe
from metagene_classifier.tokenization.tokenizer import ReadTokenizer
from metagene_classifier.whole_files import whole_file

__all__ = ["load_saved_tokenizer", "save_tokenizer"]

FACTS_NAME = "read_tokenizer.json"
SCHEMA_VERSION = 1


def save_tokenizer(tokenizer: ReadTokenizer, folder: Path) -> None:
    """Write a tokenizer's own files, and ``read_tokenizer.json`` with what they do not say.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.engine.write(folder)
    facts = {
        "schema_version": SCHEMA_VERSION,
        "kind": tokenizer.kind,
        "name": tokenizer.name,
        "add_bos": bool(tokenizer.prefix_ids),
        "add_eos": bool(tokenizer.suffix_ids),
        "fingerprint": tokenizer.fingerprint,
    }
    with whole_file(folder / FACTS_NAME) as handle:
        json.dump(facts, handle, indent=2)


def load_saved_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> ReadTokenizer:
    """Restore a tokenizer equal to the one that was saved; needs no hub.

    Raises:
        TokenizerError: files are missing or damaged, were written by a newer version, or hold another tokenizer.
    """
    path = folder / FACTS_NAME
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        version, kind, name = int(facts["schema_version"]), str(facts["kind"]), str(facts["name"])
        add_bos, add_eos = bool(facts["add_bos"]), bool(facts["add_eos"])
        fingerprint = str(facts["fingerprint"])
    except FileNotFoundError as error:
        raise TokenizerError(
            f"{path}: no such file: the folder holds no saved tokenizer; copy it again whole"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TokenizerError(f"{path}: damaged ({error}): copy the folder again whole") from error
    if version > SCHEMA_VERSION:
        raise TokenizerError(f"{path}: written by a newer version (schema {version}): update metagene-classifier")
    if kind == "minbpe":
        tokenizer = load_minbpe(folder / SAVED_NAME, name)
    else:
        tokenizer = load_huggingface(folder, name, trust_remote_code=trust_remote_code)
    if tokenizer.fingerprint != fingerprint:
        raise TokenizerError(f"{folder}: its tokenizer is not the one that was saved: copy the folder again whole")
    return tokenizer.with_specials(add_bos=add_bos, add_eos=add_eos)
