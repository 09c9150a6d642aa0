"""The run's figures, step by step: a line of JSON each, and TensorBoard or W&B where they are installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metagene_classifier.whole_files import whole_file

__all__ = ["History", "trackers_for"]


class History:
    """``history.jsonl`` of a run: rows with ``step`` and figures, kept in memory as well for the curves.

    Args:
        path: the file; ``None`` on ranks that write none.
        keep: rows that are kept of the file, whatever was written behind them: a resumed run writes those again.
    """

    def __init__(self, path: Path | None, keep: int) -> None:
        self._path = path
        self.rows: list[dict[str, Any]] = []
        if path is not None and keep and path.exists():
            self.rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:keep]]
        if path is not None:
            with whole_file(path) as out:
                out.write("".join(json.dumps(row) + "\n" for row in self.rows))

    def add(self, row: dict[str, Any]) -> None:
        """Append a row; it is on disk when this returns."""
        self.rows.append(row)
        if self._path is not None:
            with open(self._path, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(row) + "\n")


def trackers_for(
    output_dir: Path, *, tensorboard: bool, wandb: bool, first_rank: bool, tell: Callable[[str], None]
) -> list[Any]:
    """What accelerate logs with: the trackers asked for that are installed; a line is told for each that is not.

    TensorBoard's files go into ``tensorboard/`` of the run's folder, and only the first rank writes any.
    """
    from importlib.util import find_spec

    found: list[Any] = []
    for asked, name in ((tensorboard, "tensorboard"), (wandb, "wandb")):
        if asked and find_spec(name) is None:
            tell(f"{name} is not installed: no {name} log (pip install 'metagene-classifier[{name}]')")
        elif asked and name == "wandb":
            found.append(name)
        elif asked and first_rank:
            from accelerate.tracking import TensorBoardTracker

            found.append(TensorBoardTracker("tensorboard", logging_dir=output_dir))
    return found
