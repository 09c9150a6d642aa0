"""A file's figures for people, in aligned lines, and for machines."""

from __future__ import annotations

from typing import Any

from metagene_classifier.tokenization.survey import FileSurvey

__all__ = ["survey_facts", "survey_lines"]


def survey_lines(survey: FileSurvey, max_length: int) -> list[str]:
    """What a person sees of one file."""
    labelling = survey.labelling
    part = "" if survey.whole else ", not read to its end"
    lines = [
        f"{survey.path}: {survey.format or 'no read could be read'}{part}",
        f"  reads {labelling.reads:,}: with a class {labelling.labelled:,}, header or table without one "
        f"{labelling.unparsed:,}, class not in the mapping {labelling.unknown.total():,}, empty {labelling.empty:,}",
    ]
    if summary := survey.cleaning.summary():
        lines.append(f"  {summary}")
    if labelling.labelled:
        lines += _indented(survey.lengths_bp.lines("length (bp)"))
    if survey.tokens.total:
        lines += _indented(survey.tokens.lines("tokens"))
        lines.append(f"  longer than {max_length:,} tokens: {survey.longer:,} reads")
    return lines


def survey_facts(survey: FileSurvey) -> dict[str, Any]:
    """The same for machines."""
    labelling, cleaning = survey.labelling, survey.cleaning
    kinds = ("lower_case", "u_to_t", "gaps_removed", "ambiguous_to_n")
    return {
        "path": str(survey.path),
        "format": survey.format,
        "whole": survey.whole,
        "failure": survey.failure,
        "reads": labelling.reads,
        "with_class": labelling.labelled,
        "empty": labelling.empty,
        "unparsed": labelling.unparsed,
        "first_unparsed": labelling.first_unparsed,
        "unknown_classes": dict(labelling.unknown.most_common()),
        "first_unknown": labelling.first_unknown,
        "cleaned": {kind: {"reads": c.reads, "bases": c.bases} for kind in kinds if (c := getattr(cleaning, kind))},
        "length_bp": survey.lengths_bp.summary(),
        "tokens": survey.tokens.summary(),
        "longer_than_max_length": survey.longer,
        "unknown_tokens": survey.unknown_tokens,
    }


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]
