"""``mgc`` whose second rank comes to grief after a step or two: ``dying_rank.py HOW train ...``."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import torch

from metagene_classifier.cli.main import main
from metagene_classifier.errors import DataError
from metagene_classifier.model.classifier import ReadClassifier

PASSES_BEFORE = 5  # two to four of them make a step

real_embed = ReadClassifier.embed
passes = 0


def embed(self: ReadClassifier, batch: Any) -> torch.Tensor:
    """As it was, until it is time."""
    global passes
    if torch.is_grad_enabled():
        passes += 1
    if passes > PASSES_BEFORE and os.environ["RANK"] == "1":
        if HOW == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if HOW == "error":
            raise DataError("reads.fa: the disk is gone: mount it again")
        if HOW == "out of memory":
            raise torch.OutOfMemoryError("CUDA out of memory")
    return real_embed(self, batch)


if __name__ == "__main__":
    HOW = sys.argv.pop(1)
    ReadClassifier.embed = embed  # type: ignore[method-assign]
    main()
