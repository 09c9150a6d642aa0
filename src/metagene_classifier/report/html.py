"""The HTML report: one file that needs no network, for a screen, a keyboard and a printer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from metagene_classifier import __version__
from metagene_classifier.metrics.classification import METRIC_NAMES, ClassificationMetrics
from metagene_classifier.whole_files import whole_file

__all__ = ["write_report"]


def write_report(
    path: Path,
    *,
    title: str,
    facts: Mapping[str, str],
    metrics: ClassificationMetrics | None = None,
    per_class: bool = True,
    figures: Mapping[str, str] | None = None,
    calls: Mapping[str, int] | None = None,
    warnings: Sequence[str] = (),
) -> None:
    """Write the report; every text in it may come from a user's files and is escaped.

    Args:
        path: of the ``.html`` file.
        title: heading and window title.
        facts: names and values to show first, such as the model and the reads.
        metrics: figures of labelled reads; ``None`` where the truth is not known.
        per_class: show the table of classes, where there are metrics.
        figures: captions and pictures, as ``drawing.svg_text`` gives them.
        calls: reads called as each label, largest first in the table.
        warnings: lines shown above everything else.

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
    page = environment.get_template("report.html.j2").render(
        title=title,
        version=__version__,
        facts=facts,
        metrics=metrics,
        tiles=[] if metrics is None else [(name, getattr(metrics, key)) for key, name in METRIC_NAMES.items()],
        per_class=metrics is not None and per_class,
        called=[] if metrics is None else metrics.confusion.sum(axis=0).tolist(),
        # Our own drawing, whose texts matplotlib has escaped.
        figures={caption: Markup(svg) for caption, svg in (figures or {}).items()},
        calls=sorted((calls or {}).items(), key=lambda call: -call[1]),
        warnings=warnings,
    )
    with whole_file(path) as handle:
        handle.write(page)
