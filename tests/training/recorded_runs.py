"""Short runs that write down which reads each rank took: ``recorded_runs.py CASES.json``, a case for each run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from metagene_classifier.config_file import load_config
from metagene_classifier.training.run import train
from metagene_classifier.training.through_encoder import ThroughEncoder


def run(settings: dict[str, Any]) -> None:
    """One run from its settings; ``resume`` among them goes on with one."""
    resume = settings.pop("resume", False)
    record = Path(settings["training.output_dir"]).parent / f"reads.{os.environ.get('RANK', '0')}.jsonl"
    original = ThroughEncoder.add_gradients

    def recording(self, reads, keys, *, divisor):
        with record.open("a") as out:
            out.write(json.dumps({"reads": reads.tolist(), "keys": keys.tolist()}) + "\n")
        return original(self, reads, keys, divisor=divisor)

    ThroughEncoder.add_gradients = recording
    try:
        train(
            load_config(None, settings),
            resume=resume,
            overwrite=False,
            tell=lambda line: None,
            write_card=lambda folder, facts: None,
        )
    finally:
        ThroughEncoder.add_gradients = original


if __name__ == "__main__":
    torch.set_num_threads(1)
    Accelerator.end_training = lambda self: None  # the next run of this process needs the connections as well
    for case in json.loads(Path(sys.argv[1]).read_text()):
        run(case)
