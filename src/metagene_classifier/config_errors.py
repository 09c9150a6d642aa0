"""A configuration's faults in the user's words instead of pydantic's."""

from __future__ import annotations

import re

from pydantic import BaseModel, ValidationError

from metagene_classifier.errors import nearest

__all__ = ["plain_errors"]


def _known_keys(schema: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """The keys of the section that an error's location lies in."""
    model = schema
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return list(model.model_fields)


def _all_keys(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Every key's own name and its dotted place."""
    keys: dict[str, str] = {}
    for name, field in model.model_fields.items():
        keys.setdefault(name, prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            for inner, place in _all_keys(field.annotation, f"{prefix}{name}.").items():
                keys.setdefault(inner, place)
    return keys


# How pydantic names the branches of a union in the place of an error.
_BRANCH = re.compile(r"(str|int|float|bool|constrained-\w+|(literal|list|dict)\[.*\]|[A-Z]\w+)")


_OF_PATTERN = {
    "device": "use auto, cuda, cuda:N, mps or cpu",
    "training.memory_limit": "use an amount such as 24GiB or 500MiB",
}


def plain_errors(error: ValidationError, schema: type[BaseModel], where: str) -> list[str]:
    """A line for each fault: the key as the user writes it, what is wrong, and for unknown keys the nearest one.

    Args:
        error: what pydantic raised.
        schema: the model that was validated against.
        where: the file, or what else the values came from.
    """
    lines = []
    values: dict[str, tuple[list[str], str]] = {}
    for item in error.errors():
        location = item["loc"]
        key = ".".join(str(part) for part in location if not _BRANCH.fullmatch(str(part)))
        if item["type"] == "extra_forbidden":
            name = str(location[-1])
            places = _all_keys(schema)
            hint = nearest(name, _known_keys(schema, location))
            if name in places:
                hint = f" (it stands at {places[name]!r})"
            elif not hint and (near := nearest(name, places)):
                hint = near
            lines.append(f"{where}: unknown key {key!r}{hint}")
            continue
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "model_type":
            message = "should be a section with keys of its own"
        if item["type"] in ("string_pattern_mismatch", "string_type") and key in _OF_PATTERN:
            message = _OF_PATTERN[key]
        given = "" if isinstance(item["input"], (dict, BaseModel)) else f", not {item['input']!r}"
        values.setdefault(key, ([], given))[0].append(message)
    for key, (messages, given) in values.items():
        if any(other.startswith(f"{key}.") for other in values):
            continue  # a branch of a union that was not meant: the other one names the fault inside
        first, *others = dict.fromkeys(messages)
        either = "".join(f" or {other.removeprefix('Input ').removeprefix('should be ')}" for other in others)
        lines.append(f"{where}: {key + ': ' if key else ''}{first}{either}{given}")
    return lines
