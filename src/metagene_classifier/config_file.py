"""The configuration as YAML: read from a file with the command line's values over it, and written back resolved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from metagene_classifier.config import Config
from metagene_classifier.config_errors import plain_errors
from metagene_classifier.errors import ConfigError

__all__ = ["config_yaml", "load_config"]

# Keys of the earlier pipeline whose meaning is gone, and what replaced each.
_REPLACED: Mapping[str, str] = {
    "tokenizer.pack_short_reads": "reads are always batched without padding waste (training.layout)",
    "tokenizer.padding": "nothing is padded to max_length any more (training.layout)",
    "tokenizer.truncation": "tokenizer.long_reads says what happens to long reads",
    "model.lora.task_type": "the head is this project's own and is always trained and saved",
    "dataset.file_format": "the format is told from the file's content",
    "dataset.gzip": "compression is told from the file's content",
    "memory_optimization.empty_cache_steps": "it does nothing now; training.max_tokens bounds the memory of a step",
}


def load_config(
    path: Path | None,
    overrides: Mapping[str, Any] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Config:
    """Read a YAML file, apply the command line's values over it, and check everything at once.

    Args:
        path: the YAML file; ``None`` starts from the defaults.
        overrides: dotted keys and values, ``{"training.batch_size": 64}``.
        tell: called with one line for each accepted key that has lost its meaning.

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown, or a value does not fit.
    """
    values = _read_yaml(path) if path is not None else {}
    where = str(path) if path is not None else "configuration"
    for key, value in (overrides or {}).items():
        _set_dotted(values, key, value)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(plain_errors(error, Config, where))) from error
    for key, reason in _REPLACED.items():
        if _has_dotted(values, key):
            tell(f"{where}: {key} is accepted and has no effect: {reason}")
    return config


def config_yaml(config: Config) -> str:
    """The resolved configuration as YAML that :func:`load_config` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json", exclude_none=True), sort_keys=False)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such configuration file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected sections such as 'training:', found {type(values).__name__}")
    # An empty section ("model:" alone) means its defaults.
    return {key: value for key, value in values.items() if value is not None}


def _set_dotted(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        child = values.setdefault(section, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{key}: {section} is not a section")
        values = child
    values[last] = value


def _has_dotted(values: Mapping[str, Any], key: str) -> bool:
    node: Any = values
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return node is not None
