"""A sample as a sunburst in one HTML file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import html
from pathlib import Path
from typing import TYPE_CHECKING

from metagene_classifier import __version__
from metagene_classifier.prediction.formats.sunburst import (
    SUNBURST_SCRIPT,
    SUNBURST_STYLE,
    sunburst_markup,
    sunburst_nodes,
)
from metagene_classifier.whole_files import whole_file

if TYPE_CHECKING:
    from metagene_classifier.prediction.profile.result import SampleResult

__all__ = ["write"]

STYLE = """
:root { --page: #ffffff; --ink: #1b1f24; --muted: #59636e; --grid: #d5dae0; --raised: #f4f6f8; --series-1: #0072b2; }
@media screen and (prefers-color-scheme: dark) {
  :root { --page: #12161b; --ink: #e7ecf1; --muted: #a3aeb9; --grid: #39424c; --raised: #1c2229; --series-1: #56b4e9; }
}
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 20px 50px; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
.by { color: var(--muted); margin: 2px 0 18px; overflow-wrap: anywhere; }
"""  # noqa: E501


def write(path: Path, result: SampleResult) -> None:
    """Write the page; every text in it that comes from a user's files is escaped.

    Raises:
        OutputError: the file cannot be written.
    """
    direct = result.tally.direct
    called, total = int(direct[1:].sum()), int(direct.sum())
    style = STYLE + SUNBURST_STYLE
    policy = f"default-src 'none'; script-src {_digest(SUNBURST_SCRIPT)}; style-src {_digest(style)}"
    sample = html.escape(result.sample)
    if total:
        picture = sunburst_markup(sunburst_nodes(result.tree, direct), result.sample)
        share = f"{called:,} of {total:,} reads classified ({100 * called / total:.2f} %)"
    else:
        picture, share = "<p>No reads.</p>", "no reads"
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{sample}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{sample}</h1>
<p class="by">{share} · METAGENE Classifier {__version__}</p>
{picture}
</main>
<script>{SUNBURST_SCRIPT}</script>
</body>
</html>
"""
    with whole_file(path) as out:
        out.write(page)


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
