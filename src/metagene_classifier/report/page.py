"""The HTML page of a report: one file that needs no network, for a screen, a keyboard and a printer.

A page is a title, warnings, tiles, facts and sections; a section is a row of parts. What the parts say may come from a
user's files: all of it is escaped. Pictures and sunbursts are markup of our own drawing, where it is escaped already.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from metagene_classifier import __version__
from metagene_classifier.report.heat_map import HeatMap
from metagene_classifier.report.what_ran import package_versions
from metagene_classifier.whole_files import whole_file

__all__ = [
    "Column",
    "DataTable",
    "Figure",
    "Part",
    "Section",
    "SunburstSection",
    "Text",
    "Tile",
    "Tiles",
    "formatted",
    "write_page",
]

Form = Literal["text", "line", "count", "share", "figure", "id"]
ROWS_SHOWN = 100
"""Rows of a long table that are shown before a reader asks for more; so they sort and filter at once."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One large figure; ``note`` stands below it in small."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Tiles:
    """A row of large figures."""

    tiles: Sequence[Tile]


@dataclass(frozen=True, slots=True)
class Text:
    """Paragraphs."""

    paragraphs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture.

    Attributes:
        caption: its title.
        svg: as ``drawing.svg_text`` gives it.
        note: how to read it; also what is read out in place of the picture.
    """

    caption: str
    svg: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        form: ``text`` (sorted from A), ``line`` (text that is not broken, however long), ``id`` (a number without
            commas), ``count``, ``share`` (a fraction, shown in per cent) or ``figure`` (four decimals). Numbers are
            sorted from the largest.
        hint: what it means, shown when the pointer rests on the heading and read out with it.
    """

    name: str
    form: Form = "text"
    hint: str = ""

    @property
    def is_text(self) -> bool:
        """Whether it is sorted by letters, and filtered."""
        return self.form in ("text", "line")


@dataclass(frozen=True, slots=True)
class DataTable:
    """A table that can be sorted, and filtered by its text columns.

    Attributes:
        caption: its title.
        columns: the first one names the row.
        rows: values as the columns' forms say; ``None`` is shown as a dash.
        filterable: show a field to filter by.
        note: shown below the title.
        unit: what a row is, in the plural.
        faint: of each row, whether it matters less; empty for none.
        sorted_by: the column that the rows are sorted by as they are given, and whether it falls.
        picks: columns of a few values from which one can be picked, and the value that is picked at first; ``None``
            for all. Without scripts all rows are shown.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    filterable: bool = False
    note: str = ""
    unit: str = "rows"
    faint: Sequence[bool] = ()
    sorted_by: tuple[int, Literal["ascending", "descending"]] | None = None
    picks: Mapping[int, str | None] = field(default_factory=dict)

    def values_of(self, column: int) -> list[str]:
        """The texts of a column, each once, in the order of the rows."""
        return list(dict.fromkeys(formatted(row[column], self.columns[column].form) for row in self.rows))


@dataclass(frozen=True, slots=True)
class SunburstSection:
    """A sunburst: markup, and the style and the script that all sunbursts of a page share."""

    caption: str
    markup: str
    style: str = ""
    script: str = ""
    note: str = ""


Part = Tiles | Text | Figure | DataTable | HeatMap | SunburstSection


@dataclass(frozen=True, slots=True)
class Section:
    """Parts under one heading, which the page's table of contents lists."""

    title: str
    parts: Sequence[Part]
    note: str = ""


def write_page(
    path: Path,
    *,
    title: str,
    facts: Mapping[str, str],
    warnings: Sequence[str] = (),
    sections: Sequence[Section],
    tiles: Sequence[Tile] = (),
) -> None:
    """Write a report.

    Args:
        path: of the ``.html`` file.
        title: heading and window title.
        facts: what ran: names and values, in the order in which they are shown; versions are added.
        warnings: what a reader should know before anything else.
        sections: in the order in which they are shown; those without parts are left out.
        tiles: the figures that matter most.

    Raises:
        OutputError: the file cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("metagene_classifier", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = formatted
    environment.tests["none_or_nan"] = _is_missing
    shown = [section for section in sections if section.parts]
    sunbursts = [part for section in shown for part in section.parts if isinstance(part, SunburstSection)]
    scripts = [environment.get_template("script.js.html.j2").render()]
    scripts += dict.fromkeys(one.script for one in sunbursts if one.script)
    page = environment.get_template("report.html.j2").render(
        title=title,
        version=__version__,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        facts=dict(facts) | {"Versions": ", ".join(f"{name} {number}" for name, number in package_versions().items())},
        warnings=list(dict.fromkeys(warnings)),
        tiles=tiles,
        sections=shown,
        kind=lambda part: type(part).__name__,
        rows_shown=ROWS_SHOWN,
        markup=Markup,  # for what was drawn here
        styles=[Markup(style) for style in dict.fromkeys(one.style for one in sunbursts if one.style)],
        scripts=[Markup(script) for script in scripts],
        script_hashes=[_digest(script) for script in scripts],
    )
    with whole_file(path, errors="backslashreplace") as handle:  # names of files may be no text
        handle.write(page)


def formatted(value: Any, form: Form) -> str:
    """A table's cell as a person reads it."""
    if _is_missing(value):
        return "–"
    if form == "count":
        return f"{value:,}"
    if form == "share":
        return f"{value:.2%}"
    if form == "figure":
        return f"{value:.4f}"
    return str(value)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _digest(script: str) -> str:
    """What the page's security policy knows a script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
