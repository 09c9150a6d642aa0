"""``mgc train``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metagene_classifier.cli.options import TRAINING_OPTIONS, config_from, config_options
from metagene_classifier.console import is_first_rank, say

if TYPE_CHECKING:
    from metagene_classifier.training.run import RunFacts, TrainingResult

__all__ = ["command"]


@click.command("train")
@config_options(*TRAINING_OPTIONS)
@click.option("--resume", is_flag=True, help="Go on with the run in the output folder.")
@click.option("--overwrite", is_flag=True, help="Replace the run in the output folder.")
def command(config: Path | None, settings: tuple[str, ...], resume: bool, overwrite: bool, **options: Any) -> None:
    """Fine-tune an encoder into a classifier of reads.

    The best model is left in OUTPUT_DIR/best, with its report on the validation reads in OUTPUT_DIR/validation. Under
    torchrun every rank runs this command.
    """
    resolved = config_from(config, settings, options, say)
    from metagene_classifier.training.run import train

    try:
        result = train(resolved, resume=resume, overwrite=overwrite, tell=say, write_card=_write_card)
    except KeyboardInterrupt as stopped:
        folder = Path(resolved.training.output_dir)
        if (folder / "last").is_dir() and not stopped.args:  # else it was told already, and "last" is an older one
            say(f"stopped; everything is saved in {folder}/last: run the same command with --resume to go on")
        raise
    if is_first_rank():
        _write_validation(Path(resolved.training.output_dir), result)
        print(result.model_folder)


def _write_card(folder: Path, facts: RunFacts) -> None:
    from metagene_classifier.report.training import write_model_card

    write_model_card(folder, facts, command=_command_line())


def _write_validation(output_dir: Path, result: TrainingResult) -> None:
    from metagene_classifier.report.training import write_training_report

    write_training_report(output_dir / "validation", result, command=_command_line())
    if result.metrics is not None:
        say(f"report: {output_dir / 'validation' / 'report.html'}")
    say(f"model: {result.model_folder}")


def _command_line() -> str:
    import shlex

    return "mgc train " + shlex.join(word for word in sys.argv[1:] if word != "train")
