"""Problems that a user can mend. The command line prints their one line and exits; a traceback is for bugs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "DataError",
    "EncoderError",
    "MgcError",
    "ModelFolderError",
    "OutputError",
    "TokenizerError",
    "nearest",
]


class MgcError(Exception):
    """Base of the family. The message says what was wrong, where (file, line or key), and what to do."""

    exit_code = 1


class ConfigError(MgcError):
    """A key or value of the configuration, or a combination of options, that cannot work."""

    exit_code = 2


class DataError(MgcError):
    """Reads, headers, labels or genomes that cannot be used as they are."""


class TokenizerError(MgcError):
    """A tokenizer that cannot be loaded, or does not belong to the encoder."""


class EncoderError(MgcError):
    """An encoder that cannot be found, loaded or placed."""


class ModelFolderError(MgcError):
    """A saved model's folder that is damaged, too new, or made for another encoder."""


class OutputError(MgcError):
    """An output that cannot be written: it exists, is a folder, or the disk is full."""


def nearest(word: str, known: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the known word nearest to ``word``; empty when none is near."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {found[0]!r}?)" if found else ""
