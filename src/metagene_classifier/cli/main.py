"""``mgc``: finds the command, runs it, and turns a user's errors into one line and an exit code.

A command's file is imported only when that command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence

import click

from metagene_classifier import __version__
from metagene_classifier.console import is_first_rank
from metagene_classifier.errors import MgcError

__all__ = ["main"]

# name: (module, one line of help). The line stands here so that listing the commands imports none of them.
COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("train", "Fine-tune an encoder into a classifier of reads."),
    "predict": ("predict", "Call the class of every read in a file."),
    "merge": ("merge", "Join the shards of a prediction, and check that none is missing."),
    "serve": ("serve", "Call reads on a local web page, or by a JSON API."),
    "evaluate": ("evaluate", "Score a trained model on labelled reads."),
    "embed": ("embed", "Write an embedding of every read, from a trained model or a bare encoder."),
    "prepare": ("prepare", "Turn labelled reads into a store of tokens, once, that training reads from."),
    "check-data": ("check_data", "Check reads, labels and tokenizer before training; no model, no GPU."),
    "plan": ("plan", "Show what each way to train takes of a card, and what fits; no model, no GPU."),
    "cut-reads": ("cut_reads", "Cut labelled reads from reference genomes."),
    "download": ("download", "Fetch an encoder from the Hugging Face Hub."),
    "cache": ("cache", "List or remove what is kept on disk to save time."),
    "doctor": ("doctor", "Print versions, devices, caches and free disk for a bug report."),
}


class _Commands(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"metagene_classifier.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


# Options may be spelt with underscores, as the earlier pipeline's scripts spelt them.
_CONTEXT = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda token: token.replace("_", "-"),
    "max_content_width": 110,
}


@click.group(cls=_Commands, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="mgc")
def _mgc() -> None:
    """Turn a genomic foundation model into a classifier of sequencing reads."""


def main(arguments: Sequence[str] | None = None, program: str = "mgc") -> None:
    """Run one command and exit: 0 when it did its work, 130 when interrupted, otherwise the error's own code.

    Args:
        arguments: the words after the program's name; those of the process by default.
        program: the name that help texts show.
    """
    if hasattr(signal, "SIGPIPE"):  # "mgc … | head" ends quietly, as other tools do
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        _mgc.main(args=list(arguments) if arguments is not None else None, prog_name=program, standalone_mode=False)
    except MgcError as error:
        rank = "" if is_first_rank() else f"rank {os.environ['RANK']}: "
        print(f"{program}: error: {rank}{error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx is not None else program
        print(f"{command}: error: {error.format_message().rstrip('.')} (see {command} --help)", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    sys.exit(0)
