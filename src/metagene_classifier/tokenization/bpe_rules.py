"""The byte-pair merges of a tokenizer, as far as DNA meets them, or why it is no plain byte-pair encoding of it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metagene_classifier.reads.base_codes import LETTERS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["BpeRules", "NotPlainError", "read_rules", "rules_of"]

# Steps before the merges that cannot change or part a text of letters alone; what each does to one is tried as well,
# since a pattern of ``Split`` can say anything.
_HARMLESS = {
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Nmt",
    "Strip",
    "StripAccents",
    "BertNormalizer",
    "Whitespace",
    "WhitespaceSplit",
    "BertPreTokenizer",
    "Punctuation",
    "Split",
}
# Longer than the largest bound that a pattern's repetition can have (100,000 in Oniguruma).
_LONG_PROBE_BP = 100_003


class NotPlainError(Exception):
    """A tokenizer that is no plain byte-pair encoding of DNA; the message says why."""


@dataclass(frozen=True)
class BpeRules:
    """The tokens that DNA can be made of, and the merges that make them.

    Attributes:
        texts: of each token; the first five are the letters A, C, G, T and N.
        ids: of each token, in the tokenizer's vocabulary.
        parts: the two tokens that each token is merged from, ``(-1, -1)`` for the letters. A token that could be
            merged in several ways is always merged in the one that its own text takes: as long as nothing is merged
            over a token's ends, what happens inside does not depend on what is outside.
        ranks: of the merge that makes each token; -1 for the letters. Lower ranks merge first.
        merges: rank of every merge of two tokens, those that never make a token included.
    """

    texts: tuple[str, ...]
    ids: tuple[int, ...]
    parts: tuple[tuple[int, int], ...]
    ranks: tuple[int, ...]
    merges: Mapping[tuple[int, int], int]

    def right_spine(self, token: int) -> list[tuple[int, int]]:
        """The tokens that end where ``token`` ends, largest first, each with the rank at which it was merged away.

        That rank is -1 for ``token`` itself, which stays.
        """
        return _spine(self.parts, self.ranks, token, 1)

    def left_spine(self, token: int) -> list[tuple[int, int]]:
        """The same for the tokens that begin where ``token`` begins."""
        return _spine(self.parts, self.ranks, token, 0)


def read_rules(tokenizer: Tokenizer) -> BpeRules:
    """The rules of a tokenizer of the ``tokenizers`` library.

    Raises:
        NotPlainError: it is another model than byte-pair encoding, or does more to DNA than merging.
    """
    content = json.loads(tokenizer.to_str())
    model = content["model"]
    if model.get("type") != "BPE":
        raise NotPlainError(f"a {model.get('type')} model")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges"):
        if model.get(key):
            raise NotPlainError(f"{key} is set")
    for key in ("normalizer", "pre_tokenizer"):
        unusual = sorted(set(_types(content.get(key))) - _HARMLESS)
        if unusual:
            raise NotPlainError(f"its {key} is {', '.join(unusual)}")
    for added in content.get("added_tokens") or []:
        if set(added["content"].upper()) <= set(LETTERS):
            raise NotPlainError(f"its added token {added['content']!r} is made of letters of DNA")
    _try_on_letters(tokenizer)
    unknown = model.get("unk_token")
    if unknown is not None and model.get("fuse_unk") and not set(LETTERS) <= model["vocab"].keys():
        raise NotPlainError("it joins unknown letters")
    merges = [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in model["merges"]]
    return rules_of(model["vocab"], merges, model["vocab"].get(unknown))


def rules_of(vocabulary: Mapping[str, int], merges: Iterable[tuple[str, ...]], unknown_id: int | None) -> BpeRules:
    """The rules of a vocabulary and its merges in the order of their ranks.

    Args:
        vocabulary: ids of all tokens.
        merges: pairs of tokens' texts.
        unknown_id: of the token that stands for a letter which the vocabulary lacks.

    Raises:
        NotPlainError: a letter is unknown and there is no token for it, a merge comes twice or before its parts.
    """
    texts = list(LETTERS)
    ids = []
    for letter in LETTERS:
        token = vocabulary.get(letter, unknown_id)
        if token is None:
            raise NotPlainError(f"it does not know the letter {letter}")
        ids.append(token)
    parts, ranks = [(-1, -1)] * len(LETTERS), [-1] * len(LETTERS)
    place = {text: number for number, text in enumerate(texts)}
    ranked: dict[tuple[int, int], int] = {}
    never_made: list[tuple[str, str]] = []
    dna = set(LETTERS)
    for rank, (left, right) in enumerate(merges):
        text = left + right
        if not dna.issuperset(text):
            continue
        pair = (place.get(left, -1), place.get(right, -1))
        if pair in ranked:
            raise NotPlainError(f"the merge of {left} and {right} stands twice in it")
        if -1 in pair:
            never_made.append((left, right))
            continue
        ranked[pair] = rank
        # Where another merge comes first between the two, this one never makes a token; if its text is a token all the
        # same, that is made in another way.
        if _first_merge_between(parts, ranks, ranked, *pair) != rank:
            continue
        place[text] = len(texts)
        texts.append(text)
        ids.append(vocabulary[text])
        parts.append(pair)
        ranks.append(rank)
    if any(left in place and right in place for left, right in never_made):
        raise NotPlainError("a merge stands before those of its parts")
    return BpeRules(tuple(texts), tuple(ids), tuple(parts), tuple(ranks), ranked)


def _spine(
    parts: list[tuple[int, int]] | tuple[tuple[int, int], ...],
    ranks: list[int] | tuple[int, ...],
    token: int,
    side: int,
) -> list[tuple[int, int]]:
    spine = []
    rank = -1
    while token >= 0:
        spine.append((token, rank))
        token, rank = parts[token][side], ranks[token]
    return spine


def _first_merge_between(
    parts: list[tuple[int, int]], ranks: list[int], merges: Mapping[tuple[int, int], int], left: int, right: int
) -> int | None:
    """The rank of the first merge over the border between two tokens; ``None`` where there is none."""
    found = None
    lefts = _spine(parts, ranks, right, 0)
    for ending, ending_rank in _spine(parts, ranks, left, 1):
        for beginning, beginning_rank in lefts:
            rank = merges.get((ending, beginning))
            if rank is None or (found is not None and found < rank):
                continue
            # Of merges of one rank the leftmost comes first: one inside the left token before, inside the right after.
            if (ending_rank < 0 or rank < ending_rank) and (beginning_rank < 0 or rank <= beginning_rank):
                found = rank
    return found


def _types(step: Any) -> list[str]:
    """The kinds of a normalizer or pre-tokenizer and of the steps in it."""
    if step is None:
        return []
    inside = step.get("normalizers") or step.get("pretokenizers")
    return [name for one in inside for name in _types(one)] if inside else [str(step.get("type"))]


def _try_on_letters(tokenizer: Tokenizer) -> None:
    letters = random.Random(20261124)
    texts = ["".join(letters.choices(LETTERS, k=length)) for length in (1, 2, 3, 5, 8, 13, 150, 5_000, _LONG_PROBE_BP)]
    texts += [letter * length for letter in LETTERS for length in (1, 7, _LONG_PROBE_BP)]
    for text in texts:
        if tokenizer.normalizer is not None and tokenizer.normalizer.normalize_str(text) != text:
            raise NotPlainError("its normalizer changes letters of DNA")
        if tokenizer.pre_tokenizer is not None:
            pieces = tokenizer.pre_tokenizer.pre_tokenize_str(text)
            if [piece for piece, _ in pieces] != [text]:
                raise NotPlainError("its pre-tokenizer parts DNA")
