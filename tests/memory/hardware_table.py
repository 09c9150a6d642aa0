"""The table of cards in docs/memory.md, from what ``mgc plan --json`` says now.

python tests/memory/hardware_table.py          prints it
python tests/memory/hardware_table.py --write  puts it into docs/memory.md
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metagene_classifier.cli.main import main
from metagene_classifier.memory.cards import CARDS

DOCUMENT = Path(__file__).parents[2] / "docs" / "memory.md"
BEGIN, END = "<!-- hardware table: begin -->", "<!-- hardware table: end -->"
TOKENS = 512


@dataclass(frozen=True)
class Row:
    """A row of the earlier document, and the way of the plan that it speaks of."""

    earlier: str
    way: str
    settings: tuple[str, ...] = ()


ROWS = (
    Row("full training: 40 GB or more", "full+checkpointing"),
    Row("", "full+checkpointing", ("model.dtype=bfloat16", "optimizer.name=adamw_8bit")),
    Row("4-bit weights: 24 GB, batch 4 to 8", "nf4"),
    Row("", "nf4+checkpointing"),
    Row("gradient checkpointing: 24 GB, batch 2 to 4", "lora+checkpointing"),
    Row("inference: 24 GB, batch 16 to 32", "predict"),
    Row("RTX 4090: impossible", "lora"),
)


def hardware_table() -> list[str]:
    """Markdown lines."""
    lines = [
        "| the earlier document | now: way | settings | one read of 512 tokens, GiB | smallest card | "
        "RTX 4090: reads of 512 tokens at once | of 40 tokens |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        way, reads = _planned(row)
        batch = "none" if reads is None else f"{reads // TOKENS:,}"
        short = "none" if reads is None else f"{way['max_reads']:,}"
        settings = ", ".join(f"`{setting.replace('=', ': ')}`" for setting in row.settings)
        lines.append(
            f"| {row.earlier} | `{row.way}` | {settings} | {way['peak_gib']:.1f} | {_smallest(way['peak_gib'])} "
            f"| {batch} | {short} |"
        )
    return lines


def with_table(text: str) -> str:
    """The document with the table put between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return "\n".join([before + BEGIN, *hardware_table(), END + after])


def _planned(row: Row) -> tuple[dict[str, Any], int | None]:
    words = ["plan", "--gpu", "RTX 4090", "--json"]
    words += [word for setting in row.settings for word in ("--set", setting)]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main(words)
    facts = json.loads(printed.getvalue())
    way = next(one for one in facts["ways"] if one["name"] == row.way)
    return way, way["max_tokens"]


def _smallest(peak_gib: float) -> str:
    sizes = [card.gb for card in CARDS if card.bfloat16 and card.memory_gib >= peak_gib]
    return f"{min(sizes)} GB" if sizes else "none"


if __name__ == "__main__":
    if "--write" in sys.argv:
        DOCUMENT.write_text(with_table(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print("\n".join(hardware_table()))
