"""A sample as rings of clades: the inner ones hold the outer ones, and each is as wide as its share of the reads.

The picture is plain SVG. ``sunburst.js`` draws the same one from the data beside it, lets it be zoomed by mouse and
keyboard, and lists the figures; a page needs its script and its style once, however many sunbursts it has.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.tree import RANKS, TOP_RANKS, ClassTree
from metagene_classifier.prediction.formats.writing import one_line
from metagene_classifier.prediction.profile.clades import clade_sums
from metagene_classifier.reads.labels import UNCLASSIFIED

__all__ = [
    "SUNBURST_SCRIPT",
    "SUNBURST_STYLE",
    "SunburstNode",
    "sunburst_data",
    "sunburst_markup",
    "sunburst_nodes",
    "sunburst_svg",
]

SUNBURST_SCRIPT = Path(__file__).with_name("sunburst.js").read_text(encoding="utf-8")
SUNBURST_STYLE = Path(__file__).with_name("sunburst.css").read_text(encoding="utf-8")

# Paul Tol's light scheme, told apart with any colour vision and legible under black text; then one for clades above
# those that have a colour of their own, and one for unclassified reads.
PALETTE = ("#77AADD", "#EE8866", "#EEDD88", "#FFAABB", "#99DDFF", "#44BB99", "#BBCC33", "#AAAA00", "#DDDDDD", "#B4B4B4")
GREY, DARK_GREY = len(PALETTE) - 2, len(PALETTE) - 1
COLOURED_AT_LEAST = 6
"""Clades are parted into those below them until so many have a colour of their own."""
NO_RANK = "no rank"
"""What NCBI says of a taxon without one."""
DRAWN_RANKS = frozenset({*RANKS, *TOP_RANKS})

# As in sunburst.js.
SIZE, OUTER, HOLE = 640, 316, 78
NARROWEST = 0.0004
FULL = 0.99999
LETTER = 6


@dataclass(frozen=True, slots=True)
class SunburstNode:
    """A clade of the picture.

    Attributes:
        name: as it is shown.
        rank: empty where there is none.
        parent: place among the nodes; the first is the whole and its own parent.
        reads: of the clade.
        depth: steps from the whole.
        colour: place in the palette.
    """

    name: str
    rank: str
    parent: int
    reads: int
    depth: int
    colour: int


def sunburst_nodes(tree: ClassTree, direct: npt.NDArray[np.int64]) -> tuple[SunburstNode, ...]:
    """The clades to draw: parents before children, the larger of siblings first, unclassified reads last.

    Taxa between the main ranks are passed over unless reads are called there, and so is a clade that holds no more than
    one clade below it: rings would only repeat one another.

    Args:
        tree: of the classes.
        direct: reads called at each taxon itself, unclassified ones at the root; ``(taxa,)``.
    """
    called = direct.copy()
    called[0] = 0
    clade = clade_sums(called, tree)
    below: dict[int, list[int]] = {0: []}
    drawn = [-1] * len(tree)
    drawn[0] = 0
    for taxon in range(1, len(tree)):
        above = drawn[tree.taxa[taxon].parent]
        ranked = not tree.has_taxonomy or tree.taxa[taxon].rank in DRAWN_RANKS
        if clade[taxon] and (ranked or direct[taxon]):
            below[above].append(taxon)
            below[taxon] = []
            drawn[taxon] = taxon
        else:
            drawn[taxon] = above
    colours = _colours(below, clade, direct)
    nodes = [SunburstNode("all reads", "", 0, int(direct.sum()), 0, GREY)]
    stack = [(taxon, 0) for taxon in sorted(below[0], key=lambda one: (clade[one], -one))]
    while stack:
        taxon, parent = stack.pop()
        while len(below[taxon]) == 1 and clade[below[taxon][0]] == clade[taxon]:
            taxon = below[taxon][0]
        rank = tree.taxa[taxon].rank.replace(NO_RANK, "")
        depth = nodes[parent].depth + 1
        nodes.append(
            SunburstNode(one_line(tree.label_of(taxon)), rank, parent, int(clade[taxon]), depth, colours[taxon])
        )
        place = len(nodes) - 1
        stack += [(child, place) for child in sorted(below[taxon], key=lambda one: (clade[one], -one))]
    if direct[0]:
        nodes.append(SunburstNode(UNCLASSIFIED, "", 0, int(direct[0]), 1, DARK_GREY))
    return tuple(nodes)


def _colours(
    below: dict[int, list[int]], clade: npt.NDArray[np.int64], direct: npt.NDArray[np.int64]
) -> dict[int, int]:
    """A colour for each clade: that of the nearest one above it that was given one, grey above those."""
    coloured = list(below[0])
    while len(coloured) < COLOURED_AT_LEAST:
        parted = [taxon for taxon in coloured if below[taxon] and 2 * direct[taxon] < clade[taxon]]
        if not parted:
            break
        largest = max(parted, key=lambda taxon: (clade[taxon], -taxon))
        coloured.remove(largest)
        coloured += below[largest]
    coloured.sort(key=lambda taxon: (-clade[taxon], taxon))
    found = {taxon: number % GREY for number, taxon in enumerate(coloured)}
    stack = [(taxon, GREY) for taxon in below[0]]
    while stack:
        taxon, above = stack.pop()
        found[taxon] = found.get(taxon, above)
        stack += [(child, found[taxon]) for child in below[taxon]]
    return found


def sunburst_data(nodes: Sequence[SunburstNode], caption: str) -> dict[str, Any]:
    """What ``sunburst.js`` draws from, as JSON holds it."""
    return {
        "caption": caption,
        "palette": PALETTE,
        "names": [node.name for node in nodes],
        "ranks": [node.rank for node in nodes],
        "parents": [node.parent for node in nodes],
        "reads": [node.reads for node in nodes],
        "depths": [node.depth for node in nodes],
        "colours": [node.colour for node in nodes],
    }


def sunburst_markup(nodes: Sequence[SunburstNode], caption: str) -> str:
    """A part of a page: the picture, and the data from which the script makes it zoom; all text is escaped."""
    data = json.dumps(sunburst_data(nodes, caption), separators=(",", ":"), ensure_ascii=False)
    for letter in "<>&\u2028\u2029":  # so that no name can end the element
        data = data.replace(letter, f"\\u{ord(letter):04x}")
    return (
        f'<div class="sunburst"><div class="sunburst-picture">{sunburst_svg(nodes, caption)}</div>'
        f'<script type="application/json" class="sunburst-data">{data}</script></div>'
    )


def sunburst_svg(nodes: Sequence[SunburstNode], caption: str) -> str:
    """The picture alone, with all reads in the middle."""
    total = nodes[0].reads
    begins, nexts = [0.0] * len(nodes), [0.0] * len(nodes)
    has_children = [False] * len(nodes)
    for place, node in enumerate(nodes[1:], 1):
        begins[place] = nexts[place] = nexts[node.parent]
        nexts[node.parent] += node.reads / total
        has_children[node.parent] = True
    shown = [place for place in range(1, len(nodes)) if nodes[place].reads / total >= NARROWEST]
    ring = (OUTER - HOLE) / max((nodes[place].depth for place in shown), default=1)
    arcs, labels = [], []
    for place in shown:
        node, begin = nodes[place], begins[place]
        share = node.reads / total
        inner = HOLE + (node.depth - 1) * ring
        outer = inner + ring if has_children[place] else OUTER
        told = html.escape(_told(node, total))
        fill = _shade(PALETTE[node.colour], node.depth)
        arcs.append(f'<path d="{_arc(begin, begin + share, inner, outer)}" fill="{fill}"><title>{told}</title></path>')
        labels.append(_label(node.name, begin + share / 2, inner, outer, share))
    middle = (
        f'<circle cx="{SIZE // 2}" cy="{SIZE // 2}" r="{HOLE - 4}"/>'
        f'<text x="{SIZE // 2}" y="{SIZE // 2 - 9}" class="centre">{html.escape(nodes[0].name)}</text>'
        f'<text x="{SIZE // 2}" y="{SIZE // 2 + 9}" class="centre figure">{total:,} reads</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE} {SIZE}" role="img" '
        f'aria-label="{html.escape(f"{caption}: {total:,} reads")}">{"".join(arcs)}{"".join(labels)}{middle}</svg>'
    )


def _told(node: SunburstNode, total: int) -> str:
    rank = f" ({node.rank})" if node.rank else ""
    return f"{node.name}{rank}: {node.reads:,} reads, {100 * node.reads / total:.2f} %"


def _point(radius: float, fraction: float) -> tuple[float, float]:
    angle = 2 * math.pi * fraction
    return SIZE / 2 + radius * math.sin(angle), SIZE / 2 - radius * math.cos(angle)


def _arc(begin: float, end: float, inner: float, outer: float) -> str:
    end = min(end, begin + FULL)  # the ends of a whole circle would be one point, and nothing be drawn
    large = int(end - begin > 0.5)
    corners = [_point(outer, begin), _point(outer, end), _point(inner, end), _point(inner, begin)]
    first, second, third, fourth = (f"{x:.2f} {y:.2f}" for x, y in corners)
    return (
        f"M{first}A{outer:.2f} {outer:.2f} 0 {large} 1 {second}L{third}A{inner:.2f} {inner:.2f} 0 {large} 0 {fourth}Z"
    )


def _label(name: str, middle: float, inner: float, outer: float, share: float) -> str:
    """Along the ring or across it, wherever there is more room; empty where there is too little."""
    radius = (inner + outer) / 2
    width = 2 * math.pi * radius * min(share, FULL)
    chord = 2 * math.sqrt(max(0.0, (outer - 6) ** 2 - radius**2))
    along = min(width - 6, chord) if outer - inner > 12 else 0.0
    across = outer - inner - 8 if width > 12 else 0.0
    room = max(along, across)
    if room < 4 * LETTER:
        return ""
    turn = 360 * middle - (90 if across >= along else 0)
    if (turn + 450) % 360 > 180:  # never upside down
        turn += 180
    x, y = _point(radius, middle)
    shown = name if len(name) * LETTER <= room else name[: max(1, int(room / LETTER) - 1)] + "…"
    return f'<text transform="translate({x:.2f},{y:.2f}) rotate({turn:.1f})">{html.escape(shown)}</text>'


def _shade(colour: str, depth: int) -> str:
    white = min(0.55, 0.11 * (depth - 1))
    values = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return "#" + "".join(f"{math.floor(value + (255 - value) * white + 0.5):02x}" for value in values)
