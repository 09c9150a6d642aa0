"""Which tokenizer goes with an encoder, and whether its ids fit.

A minbpe file belongs to the encoder that was trained with it: to any other its ids are rows of the wrong tokens, with
nothing to show for it. So beside any other encoder, that encoder's own tokenizer is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from metagene_classifier.console import say
from metagene_classifier.errors import EncoderError, TokenizerError
from metagene_classifier.hub import METAGENE_1, RESOURCES, fetch_folder, is_local, resolve_encoder_folder
from metagene_classifier.tokenization.huggingface import has_tokenizer, load_huggingface
from metagene_classifier.tokenization.minbpe import is_minbpe_file, load_minbpe
from metagene_classifier.tokenization.tokenizer import ReadTokenizer

__all__ = ["check_fits", "choose_tokenizer", "context_of", "own_tokenizer", "vocabulary_of"]

BUILTIN_METAGENE_1 = "builtin:metagene-1"
SHIPPED_MINBPE = RESOURCES / "tokenizers" / "minbpe" / "large-mgfm-1024.model"
MINBPE_NAMES = ("minbpe", "builtin:minbpe")


def choose_tokenizer(
    *,
    name_or_path: str,
    use_hf_tokenizer: bool,
    encoder: str,
    revision: str | None,
    encoder_is_new: bool,
    add_bos: bool,
    add_eos: bool,
    trust_remote_code: bool,
    tell: Callable[[str], None],
) -> ReadTokenizer:
    """The tokenizer for an encoder, by what the user named and what the encoder was trained with.

    Args:
        name_or_path: hub name, folder, ``builtin:metagene-1``, a minbpe ``.model`` file, or ``builtin:minbpe``.
        use_hf_tokenizer: ``False`` names a minbpe file; METAGENE-1's hub name then means the file that ships.
        encoder: hub name, folder or ``builtin:NAME``.
        revision: of the encoder on the hub.
        encoder_is_new: it has no weights yet, so any tokenizer may go with it.
        add_bos: keep the special tokens before a read.
        add_eos: keep those after it.
        trust_remote_code: allow the repository's own Python code to run.
        tell: called with one line when another tokenizer than the named one is used, or a foreign one is.

    Raises:
        TokenizerError: it cannot be loaded, or the encoder has none of its own where only that would do.
        EncoderError: the encoder cannot be found.
    """
    if use_hf_tokenizer:
        chosen = _huggingface_for(name_or_path, encoder, revision, encoder_is_new, trust_remote_code, tell)
    else:
        chosen = _minbpe_for(name_or_path, encoder, revision, encoder_is_new, trust_remote_code, tell)
    return chosen.with_specials(add_bos=add_bos, add_eos=add_eos)


def own_tokenizer(encoder: str, revision: str | None, *, trust_remote_code: bool) -> ReadTokenizer | None:
    """The tokenizer that an encoder came with; ``None`` when it came without.

    Raises:
        EncoderError: the encoder cannot be found.
        TokenizerError: its tokenizer is damaged.
    """
    if _is_metagene_1(encoder):
        return load_huggingface(RESOURCES / "tokenizers" / "metagene-1", encoder)
    folder = resolve_encoder_folder(encoder, revision, weights=False, trust_remote_code=trust_remote_code)
    if has_tokenizer(folder):
        return load_huggingface(folder, encoder, trust_remote_code=trust_remote_code)
    files = _minbpe_files(folder)
    return load_minbpe(files[0]) if files else None


def check_fits(
    tokenizer: ReadTokenizer,
    *,
    vocab_size: int,
    context: int | None,
    max_length: int,
    tell: Callable[[str], None] = say,
) -> int:
    """Check a tokenizer's ids against an encoder's vocabulary; returns the tokens that the encoder sees at once.

    Args:
        tokenizer: with the special tokens that will be used.
        vocab_size: rows of the encoder's embedding.
        context: positions that the encoder knows; ``None`` for no limit.
        max_length: tokens wanted, special tokens included.
        tell: called with one line when ``context`` is shorter than ``max_length``.

    Raises:
        TokenizerError: an id outside the vocabulary, or no room for a token beside the special tokens.
    """
    largest = max(tokenizer.vocab_size - 1, tokenizer.pad_id or 0)
    if largest >= vocab_size:
        raise TokenizerError(
            f"tokenizer {tokenizer.name} has ids up to {largest}, and the encoder's vocabulary ends at "
            f"{vocab_size - 1}: name the encoder's own tokenizer in tokenizer.name_or_path"
        )
    length = max_length
    if context is not None and context < max_length:
        tell(f"tokenizer.max_length is {max_length} and the encoder's context {context} tokens: {context} is used")
        length = context
    if length <= tokenizer.special_count:
        raise TokenizerError(
            f"tokenizer {tokenizer.name} puts {tokenizer.special_count} special tokens around every read, which leaves "
            f"no room in {length} tokens: raise tokenizer.max_length"
        )
    return length


def vocabulary_of(encoder_config: Mapping[str, Any], encoder: str) -> int:
    """Rows of an encoder's embedding, from its ``config.json``.

    Raises:
        EncoderError: the configuration does not say.
    """
    value = encoder_config.get("vocab_size")
    if not isinstance(value, int):
        raise EncoderError(f"{encoder}: config.json has no vocab_size, so its tokenizer cannot be checked")
    return value


def context_of(encoder_config: Mapping[str, Any]) -> int | None:
    """Tokens that an encoder's positions reach over, from its ``config.json``; ``None`` where it sets no limit."""
    keys = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
    positions = next((value for key in keys if isinstance(value := encoder_config.get(key), int)), None)
    if positions is not None and encoder_config.get("model_type") in ("esm", "roberta", "xlm-roberta", "camembert"):
        # Their positions start after the padding id.
        positions -= int(encoder_config.get("pad_token_id") or 0) + 1
    return positions if positions is not None and positions > 0 else None


def _huggingface_for(
    name: str,
    encoder: str,
    revision: str | None,
    encoder_is_new: bool,
    trust_remote_code: bool,
    tell: Callable[[str], None],
) -> ReadTokenizer:
    if name in MINBPE_NAMES or is_minbpe_file(Path(name).expanduser()):
        raise TokenizerError(f"tokenizer.name_or_path: {name} is a minbpe file: set tokenizer.use_hf_tokenizer: false")
    if name == encoder:
        own = own_tokenizer(encoder, revision, trust_remote_code=trust_remote_code)
        if own is None or own.kind != "huggingface":
            raise TokenizerError(f"{encoder} has no Hugging Face tokenizer: name one in tokenizer.name_or_path")
        return own
    named = _named_huggingface(name, trust_remote_code)
    if encoder_is_new:
        return named
    try:
        own = own_tokenizer(encoder, revision, trust_remote_code=trust_remote_code)
    except TokenizerError:
        if name == METAGENE_1:
            raise
        own = None
    if own is None or own.fingerprint == named.fingerprint:
        return named
    if name == METAGENE_1:  # the default, so most likely nobody chose it
        tell(f"tokenizer: {encoder} was trained with its own tokenizer, which is used instead of {METAGENE_1}'s")
        return own
    tell(f"tokenizer: {name} is not the tokenizer that {encoder} was trained with: its tokens may mean other things")
    return named


def _minbpe_for(
    name: str,
    encoder: str,
    revision: str | None,
    encoder_is_new: bool,
    trust_remote_code: bool,
    tell: Callable[[str], None],
) -> ReadTokenizer:
    named = _named_minbpe(name)
    if encoder_is_new:
        return named
    if not _is_metagene_1(encoder):
        folder = resolve_encoder_folder(encoder, revision, weights=False, trust_remote_code=trust_remote_code)
        if any(load_minbpe(path).fingerprint == named.fingerprint for path in _minbpe_files(folder)):
            return named
    own = own_tokenizer(encoder, revision, trust_remote_code=trust_remote_code)
    if own is None:
        raise TokenizerError(
            f"{encoder} was not trained with the minbpe file {named.name} (its folder does not hold it) and has no "
            "tokenizer of its own: name the one it was trained with in tokenizer.name_or_path"
        )
    tell(f"tokenizer: {encoder} was not trained with the minbpe file {named.name}: its own tokenizer is used")
    return own


def _named_minbpe(name: str) -> ReadTokenizer:
    if name in (METAGENE_1, *MINBPE_NAMES):
        return load_minbpe(SHIPPED_MINBPE, "builtin:minbpe")
    path = Path(name).expanduser()
    if path.suffix != ".model" and not path.is_file():
        raise TokenizerError(
            f"tokenizer.use_hf_tokenizer: false needs a minbpe .model file in tokenizer.name_or_path, not {name!r}: "
            "give one, or 'builtin:minbpe', or set tokenizer.use_hf_tokenizer: true"
        )
    return load_minbpe(path)


def _named_huggingface(name: str, trust_remote_code: bool) -> ReadTokenizer:
    if _is_metagene_1(name):
        return load_huggingface(RESOURCES / "tokenizers" / "metagene-1", METAGENE_1)
    if name.startswith("builtin:"):
        raise TokenizerError(f"tokenizer.name_or_path: {name}: there are builtin:metagene-1 and builtin:minbpe")
    try:
        folder = fetch_folder(name, weights=False, trust_remote_code=trust_remote_code)
    except EncoderError as error:
        raise TokenizerError(f"tokenizer.name_or_path: {error}") from error
    return load_huggingface(folder, name, trust_remote_code=trust_remote_code)


def _is_metagene_1(name: str) -> bool:
    return name == BUILTIN_METAGENE_1 or (name == METAGENE_1 and not is_local(name))


def _minbpe_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.model") if is_minbpe_file(path))
