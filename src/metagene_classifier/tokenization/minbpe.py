"""minbpe ``.model`` files (github.com/karpathy/minbpe): byte-pair merges over the 256 byte values.

The merges run in the ``tokenizers`` library, which gives the same ids as minbpe's own code and some 30 times faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from metagene_classifier.errors import TokenizerError
from metagene_classifier.tokenization.table_lane import TableLane
from metagene_classifier.tokenization.tokenizer import ReadTokenizer, fingerprint_of
from metagene_classifier.whole_files import whole_file

__all__ = ["SAVED_NAME", "is_minbpe_file", "load_minbpe"]

SAVED_NAME = "minbpe.model"
FIRST_LINE = "minbpe v1"
END_TOKENS = ("<|eos|>", "<|endoftext|>")


@dataclass(frozen=True)
class _Merges:
    """What a ``.model`` file holds: ids 0 to 255 are the bytes, merge ``n`` makes id ``256 + n``."""

    pattern: str
    specials: dict[str, int]
    pairs: list[tuple[int, int]]


class _MinbpeEngine:
    """minbpe's encoding and decoding of cleaned reads."""

    def __init__(self, merges: _Merges, path: Path) -> None:
        texts = [bytes([value]) for value in range(256)]
        for first, second in merges.pairs:
            texts.append(texts[first] + texts[second])
        seen: dict[bytes, int] = {}
        for token, text in enumerate(texts):
            if seen.setdefault(text, token) != token:
                raise TokenizerError(
                    f"{path}: tokens {seen[text]} and {token} are both {text.decode('latin-1')!r}: a minbpe file in "
                    "which two tokens have one text cannot be used"
                )
        self._merges = merges
        self._texts = dict(enumerate(texts)) | {token: text.encode() for text, token in merges.specials.items()}
        # Latin-1 gives each byte one character. Cleaned reads are ASCII, where that is their UTF-8 as well.
        names = [text.decode("latin-1") for text in texts]
        self.library = Tokenizer(
            models.BPE(
                vocab={name: token for token, name in enumerate(names)},
                merges=[(names[first], names[second]) for first, second in merges.pairs],
            )
        )
        if merges.pattern:
            try:
                splitter = pre_tokenizers.Split(Regex(merges.pattern), "isolated")
            except Exception as error:  # the library raises nothing narrower
                raise TokenizerError(f"{path}, line 2: not a pattern that can be used: {error}") from error
            self.library.pre_tokenizer = splitter

    def encode(self, sequences: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.library.encode_batch_fast(sequences, add_special_tokens=False)]

    def text(self, ids: Sequence[int]) -> str:
        return b"".join(self._texts[token] for token in ids).decode(errors="replace")

    def write(self, folder: Path) -> None:
        specials = [f"{text} {token}" for text, token in self._merges.specials.items()]
        pairs = [f"{first} {second}" for first, second in self._merges.pairs]
        lines = [FIRST_LINE, self._merges.pattern, str(len(specials)), *specials, *pairs]
        with whole_file(folder / SAVED_NAME) as handle:
            handle.write("\n".join(lines) + "\n")


def is_minbpe_file(path: Path) -> bool:
    """True for a file that begins as minbpe's do."""
    try:
        with open(path, "rb") as handle:
            return handle.read(len(FIRST_LINE)) == FIRST_LINE.encode()
    except OSError:
        return False


def load_minbpe(path: Path, name: str | None = None) -> ReadTokenizer:
    """Load a minbpe ``.model`` file; nothing stands before a read, and ``<|eos|>`` after it.

    Raises:
        TokenizerError: the file is missing, or not a whole minbpe file.
    """
    merges = _read(path)
    engine = _MinbpeEngine(merges, path)
    end = next((merges.specials[text] for text in END_TOKENS if text in merges.specials), None)
    return ReadTokenizer(
        kind="minbpe",
        name=name or str(path),
        content_size=256 + len(merges.pairs),
        prefix_ids=(),
        suffix_ids=() if end is None else (end,),
        pad_id=None,
        unk_id=None,
        fingerprint=fingerprint_of(
            {"kind": "minbpe", "pattern": merges.pattern, "specials": merges.specials, "merges": merges.pairs}
        ),
        engine=engine,
        lane=TableLane(engine.library),
    )


def _read(path: Path) -> _Merges:
    if not path.is_file():
        raise TokenizerError(f"{path}: no such minbpe file: give its path, or 'builtin:minbpe' for the one that ships")
    if not is_minbpe_file(path):
        raise TokenizerError(f"{path}, line 1: not a minbpe file: it does not begin with {FIRST_LINE!r}")
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{path}: cannot be read: {error}") from error
    if len(lines) < 3 or not lines[2].strip().isdigit():
        raise TokenizerError(f"{path}, line 3: expected the number of special tokens: the file is damaged")
    first_merge = 3 + int(lines[2])
    specials: dict[str, int] = {}
    for number, line in enumerate(lines[3:first_merge], start=4):
        words = line.split()
        if len(words) != 2 or not words[1].isdigit():
            raise TokenizerError(f"{path}, line {number}: expected a special token and its id, not {line!r}")
        specials[words[0]] = int(words[1])
    pairs: list[tuple[int, int]] = []
    for number, line in enumerate(lines[first_merge:], start=first_merge + 1):
        words = line.split()
        if len(words) != 2 or not all(word.isdigit() for word in words):
            raise TokenizerError(f"{path}, line {number}: expected the two ids of a merge, not {line!r}")
        first, second = int(words[0]), int(words[1])
        if max(first, second) >= 256 + len(pairs):
            raise TokenizerError(f"{path}, line {number}: merges id {max(first, second)}, which is not made before it")
        pairs.append((first, second))
    if not pairs:
        raise TokenizerError(f"{path}: holds no merges: the file is cut short")
    for text, token in specials.items():
        if token < 256 + len(pairs):
            raise TokenizerError(f"{path}: special token {text} has id {token}, which a merge has as well")
    return _Merges(lines[1], specials, pairs)
