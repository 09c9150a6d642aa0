"""A run's folder: refused when it holds another run, emptied or taken up again when the user says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metagene_classifier.config import Config
from metagene_classifier.config_file import config_yaml, load_config
from metagene_classifier.console import is_first_rank
from metagene_classifier.errors import ConfigError, OutputError
from metagene_classifier.model.saved import recover_folder
from metagene_classifier.training.parallel import ranks
from metagene_classifier.training.state import STATE_FILE
from metagene_classifier.whole_files import whole_file

__all__ = [
    "begin_output_dir",
    "check_output_dir",
    "has_saved_state",
    "resumed_config",
    "tokens_before",
    "with_quantization",
]

CONFIG_FILE = "config.yaml"
# What was chosen and may change with the device, while the configuration says "auto".
PLAN_FILE = "plan.json"
# What a run leaves, and so what --overwrite may remove: nothing else in the folder is ever touched.
RUN_ENTRIES = (
    *(name + end for name in ("best", "last") for end in ("", ".old", ".partial")),
    *("history.jsonl", "validation", "open_set.json", "tensorboard", CONFIG_FILE, PLAN_FILE),
)
# Keys that may differ between a run and its resumption: they never change what is learned, or only how long.
FREE_KEYS = (
    "device",
    "model.gradient_checkpointing",
    "model.checkpoint_every",
    "model.checkpoint_offload",
    "logging",
    "metrics",
    "calling",
    "training.max_epochs",
    "training.max_steps",
    "training.fit",
    "training.memory_limit",
    "training.max_tokens",
    "training.layout",
    "training.parallel",
    "training.output_dir",
    "training.checkpoint",
    "training.early_stopping.patience",
    "training.early_stopping.enabled",
    "dataset.test_fasta",
    "dataset.taxonomy",
    "dataset.prepare_workers",
)


# Keys that may differ where a step has as many reads as before, since another number of ranks shares them.
STEP_KEYS = ("training.batch_size", "training.grad_accum_steps")


def check_output_dir(
    output_dir: Path, config: Config, *, resume: bool, overwrite: bool, tell: Callable[[str], None]
) -> None:
    """Look whether the run's folder may be used, before any work is done; nothing is written or removed yet.

    Raises:
        OutputError: the folder holds a run and neither flag was given, or nothing to resume, or cannot be one.
        ConfigError: both flags, or a resumed run's configuration differs where that changes what is learned.
    """
    if not is_first_rank():
        return  # one rank looks; when it refuses, the launcher ends the others
    if resume and overwrite:
        raise ConfigError("--resume and --overwrite exclude each other: the one goes on, the other starts again")
    if output_dir.exists() and not output_dir.is_dir():
        raise OutputError(f"training.output_dir: {output_dir} is a file: name a folder")
    if resume:
        for name in ("last", "best"):
            recover_folder(output_dir / name)
        if not (output_dir / CONFIG_FILE).is_file():
            raise OutputError(f"{output_dir} holds no run to resume: leave --resume out to start one")
        if not has_saved_state(output_dir) and (output_dir / "best").exists():
            raise OutputError(
                f"{output_dir} holds no run to resume: its best model is there, and what going on needs was not kept "
                "(training.checkpoint.save_last: false): name another folder, or replace it (--overwrite)"
            )
        if not has_saved_state(output_dir):
            tell(f"the run in {output_dir} had saved nothing yet: it begins again")
            return
        _check_same_config(output_dir / CONFIG_FILE, config, tell)
    elif (found := _entries(output_dir)) and not overwrite:
        go_on = "go on with it (--resume), " if (output_dir / "last" / STATE_FILE).is_file() else ""
        raise OutputError(
            f"{output_dir} holds a run already ({', '.join(found)}): {go_on}"
            "replace it (--overwrite), or name another folder"
        )


def has_saved_state(output_dir: Path) -> bool:
    """Whether there is something to go on from; every rank sees the same, also while the first one recovers it."""
    return any((output_dir / name / STATE_FILE).is_file() for name in ("last", "last.old", "last"))


def resumed_config(output_dir: Path, config: Config) -> Config:
    """The configuration with what a run chose at its start and cannot change any more: its quantization.

    Raises:
        ConfigError: the run's own configuration cannot be read.
    """
    if config.model.quantization != "auto":
        return config
    chosen = load_config(output_dir / CONFIG_FILE).model.quantization
    return with_quantization(config, "none" if chosen == "auto" else chosen)  # runs of versions that had no choice


def with_quantization(config: Config, chosen: str) -> Config:
    """The configuration with its quantization chosen; what else is ``auto`` may be another on another device."""
    return config.model_copy(update={"model": config.model.model_copy(update={"quantization": chosen})})


def tokens_before(output_dir: Path) -> int | None:
    """Tokens of a micro-batch in a run that is resumed; ``None`` where that is not known."""
    return _planned(output_dir, "max_tokens")


def _planned(output_dir: Path, name: str) -> int | None:
    try:
        found = json.loads((output_dir / PLAN_FILE).read_text(encoding="utf-8"))[name]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, int) and found > 0 else None


def _reads_per_step(config: Config) -> int:
    """Of an optimizer step, over all ranks."""
    return config.training.batch_size * config.training.grad_accum_steps * ranks()


def begin_output_dir(output_dir: Path, config: Config, *, max_tokens: int, resume: bool) -> None:
    """Make the folder, remove the run that is to be replaced, and write configuration and micro-batch as they are.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    if not is_first_rank():
        return
    if not resume:
        for entry in _entries(output_dir):
            path = output_dir / entry
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {output_dir}: {error.strerror}") from error
    with whole_file(output_dir / CONFIG_FILE) as out:
        out.write(config_yaml(config))
    with whole_file(output_dir / PLAN_FILE) as out:
        out.write(json.dumps({"max_tokens": max_tokens, "reads_per_step": _reads_per_step(config)}) + "\n")


def _entries(output_dir: Path) -> list[str]:
    return [entry for entry in RUN_ENTRIES if (output_dir / entry).exists()]


def _check_same_config(path: Path, config: Config, tell: Callable[[str], None]) -> None:
    config = resumed_config(path.parent, config)
    before = _flat(resumed_config(path.parent, load_config(path)).model_dump(mode="json"))
    now = _flat(config.model_dump(mode="json"))
    changed = [key for key in now if before.get(key) != now[key]]
    same_step = _planned(path.parent, "reads_per_step") == _reads_per_step(config)
    may_change = FREE_KEYS + (STEP_KEYS if same_step else ())
    bound = [key for key in changed if not any(key == free or key.startswith(free + ".") for free in may_change)]
    if bound:
        differences = ", ".join(f"{key} was {before.get(key)!r} and is {now[key]!r}" for key in bound[:5])
        raise ConfigError(f"cannot resume with another configuration than the run's own ({path}): {differences}")
    for key in changed:
        tell(f"resuming with {key} {now[key]!r} instead of {before.get(key)!r}")


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
