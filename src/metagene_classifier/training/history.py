"""The run's figures, step by step: a line of JSON each, and TensorBoard or W&B where they are installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["History", "trackers_for"]


class History:
    """``history.jsonl`` of a run: rows with ``step`` and figures, kept in memory as well for the curves.

    Args:
        path: the file; ``None`` on ranks that write none.
        up_to_step: rows of later steps are dropped, since the run resumes before them; ``None`` starts anew.
    """

    def __init__(self, path: Path | None, up_to_step: int | None) -> None:
        self._path = path
        self.rows: list[dict[str, Any]] = []
        if path is not None and up_to_step is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    continue  # the line that was being written when the run was killed
                if row["step"] <= up_to_step:
                    self.rows.append(row)
        if path is not None:
            path.write_text("".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8")

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
