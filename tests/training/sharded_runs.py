"""Several short training runs in one launch of ``torchrun``: ``sharded_runs.py CASES.json``, a case for each run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from metagene_classifier.config_file import load_config
from metagene_classifier.console import is_first_rank
from metagene_classifier.training.run import train


def run(settings: dict[str, Any]) -> None:
    """One run from its settings; ``resume`` among them goes on with one."""
    resume = settings.pop("resume", False)

    def tell(line: str) -> None:
        if is_first_rank():
            with (Path(settings["training.output_dir"]).parent / "told.txt").open("a") as out:
                out.write(line + "\n")

    train(load_config(None, settings), resume=resume, overwrite=False, tell=tell, write_card=lambda folder, facts: None)


if __name__ == "__main__":
    torch.set_num_threads(1)
    Accelerator.end_training = lambda self: None  # the next run of this process needs the connections as well
    for case in json.loads(Path(sys.argv[1]).read_text()):
        run(case)
