"""What all pictures share: a palette, a canvas without global state, and their two forms, PNG and inline SVG."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from metagene_classifier.whole_files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "CATEGORIES",
    "EDGE",
    "GRID",
    "INK",
    "MUTED",
    "OTHER",
    "SERIES",
    "drawn",
    "new_figure",
    "plain_axes",
    "save_png",
    "shortened",
    "svg_text",
]

INK = "#1b1f24"
MUTED = "#59636e"
GRID = "#d5dae0"
# Okabe & Ito's colours (https://jfly.uni-koeln.de/color/): told apart with any colour vision.
CATEGORIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442")
SERIES = CATEGORIES[:3]
OTHER = "#9aa3ad"
EDGE = "#5c6670"
"""Around areas that touch, as pale colours would fade into the page."""

# In the report these follow the page's light or dark scheme; a picture used alone shows the colours themselves.
_PAGE_COLOURS = {INK: "--ink", MUTED: "--muted", GRID: "--grid", OTHER: "--other", EDGE: "--edge"} | {
    colour: f"--series-{number}" for number, colour in enumerate(CATEGORIES, start=1)
}

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    # A label such as "chr$1" is a name and no formula.
    "text.parse_math": False,
    # Text stays text, and the same picture has the same bytes.
    "svg.fonttype": "none",
    "svg.hashsalt": "metagene-classifier",
}

LEAST_SCALE = 0.8
"""A picture is not shown smaller: its text could not be read. On a narrow page it scrolls."""

_Arguments = ParamSpec("_Arguments")


def drawn(draw: Callable[_Arguments, Figure]) -> Callable[_Arguments, Figure]:
    """Run a function that makes a figure under this project's style, leaving matplotlib's own settings alone."""

    @wraps(draw)
    def styled(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Figure:
        import matplotlib

        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return styled


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure whose parts make room for each other; call it from a :func:`drawn` function."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained")


def plain_axes(axes: Axes, *, grid: str) -> None:
    """Thin grid lines behind the data, across the ``"x"`` or the ``"y"`` axis."""
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=GRID, linewidth=0.7)  # type: ignore[arg-type]
    axes.tick_params(length=0)


def shortened(label: str, length: int = 34) -> str:
    """One line of at most ``length`` characters that keeps both ends, where names of strains differ."""
    label = " ".join(label.split())
    if len(label) <= length:
        return label
    tail = (length - 1) // 3
    return f"{label[: length - 1 - tail]}…{label[-tail:]}"


def _save(figure: Figure, target: Any, picture_format: str, **options: Any) -> None:
    import matplotlib

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # A name in a script that the font lacks shows as boxes; the tables hold it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        # Tight: the layout can misjudge the room that rotated names take, and nothing may be cut off.
        figure.savefig(target, format=picture_format, bbox_inches="tight", pad_inches=0.08, **options)


def save_png(figure: Figure, path: Path) -> None:
    """Write the picture on white at 150 dots per inch.

    Raises:
        OutputError: the file cannot be written.
    """
    with whole_file(path, "wb") as handle:
        _save(figure, handle, "png", dpi=150, facecolor="white")


def svg_text(figure: Figure) -> str:
    """The picture as an ``<svg>`` element to stand inside a page, transparent and in the page's own colours."""
    text = io.StringIO()
    _save(figure, text, "svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    element = text.getvalue()[text.getvalue().index("<svg") :]
    # It shrinks with the page down to where its text can still be read, and never grows past its own size.
    element = re.sub(r'(<svg [^>]*?)width="([\d.]+)pt" height="[^"]*"', _sized, element, count=1)
    element = _own_ids(element)
    element = element.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    for colour, name in _PAGE_COLOURS.items():
        element = re.sub(rf"(fill|stroke): {colour}", rf"\1: var({name}, {colour})", element)
    return element


def _own_ids(element: str) -> str:
    """Names of parts that no other picture of a page has; those that nothing refers to are left out."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', element))
    mark = hashlib.sha256(element.encode()).hexdigest()[:6]
    element = re.sub(r' id="([^"]*)"', lambda found: f' id="{mark}{found[1]}"' if found[1] in used else "", element)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{mark}", element)


def _sized(opening: re.Match[str]) -> str:
    points = float(opening[2])
    return (
        f'{opening[1]}width="100%" style="max-width: {points:g}pt; min-width: {LEAST_SCALE * points:g}pt; height: auto"'
    )
