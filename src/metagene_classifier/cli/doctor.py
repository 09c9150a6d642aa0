"""``mgc doctor``: what a bug report needs."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from metagene_classifier import __version__

__all__ = ["command"]

GIB = 2**30
DISTRIBUTIONS = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "tokenizers",
    "huggingface_hub",
    "safetensors",
    "numpy",
    "bitsandbytes",
    "flash-attn",
)
VARIABLES = (
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
    "CUDA_VISIBLE_DEVICES",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_ENDPOINT",
    "TOKENIZERS_PARALLELISM",
)


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Print versions, devices, caches and free disk for a bug report."""
    sections = {
        "versions": _versions(),
        "machine": _machine(),
        "devices": _devices(),
        "hub": _hub(),
        "disk": _disk(),
        "environment": {name: os.environ.get(name) for name in VARIABLES},
    }
    if as_json:
        print(json.dumps(sections, indent=2))
        return
    for title, facts in sections.items():
        print(title)
        width = max(map(len, facts))
        for name, value in facts.items():
            print(f"  {name:<{width}}  {_shown(value)}")


def _versions() -> dict[str, Any]:
    found: dict[str, Any] = {"metagene-classifier": __version__, "python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "python at": sys.executable,
        "cpu": _cpu_line("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory (GiB)": _memory_gib(),
    }


def _devices() -> dict[str, Any]:
    """Every device that torch can compute on, and whether it has bf16 units."""
    flags = (_cpu_line("flags") or _cpu_line("Features") or "").split()
    cpu_bf16: bool | None = any(flag in ("avx512_bf16", "amx_bf16", "bf16") for flag in flags) if flags else None
    devices: dict[str, Any] = {"cpu": {"bf16": cpu_bf16}}
    try:
        import torch
    except (ImportError, OSError) as error:  # a broken CUDA library shows as OSError
        return {**devices, "torch": f"cannot be imported: {error}"}
    devices["cpu"]["threads"] = torch.get_num_threads()
    devices["cuda"] = torch.version.cuda or getattr(torch.version, "hip", None) or "not in this build of torch"
    if torch.version.cuda and not torch.cuda.is_available():
        devices["cuda"] += ", and no device or driver was found"
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        devices[f"cuda:{index}"] = {
            "name": properties.name,
            "memory (GiB)": round(properties.total_memory / GIB, 1),
            "compute capability": f"{properties.major}.{properties.minor}",
            # Emulated on older cards, and slow there.
            "bf16": bool(torch.version.hip) or properties.major >= 8,
        }
    if torch.backends.mps.is_available():
        devices["mps"] = {"bf16": torch.backends.mps.is_macos_or_newer(14, 0)}
    return devices


def _hub() -> dict[str, Any]:
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cached = {repo.repo_id: round(repo.size_on_disk / GIB, 2) for repo in scan_cache_dir().repos}
    except (CacheNotFound, OSError):
        cached = {}
    return {
        "home": constants.HF_HOME,
        "cache": constants.HF_HUB_CACHE,
        "cached (GiB)": round(sum(cached.values()), 2),
        "repositories": cached,
        "endpoint": constants.ENDPOINT,
        "offline": constants.HF_HUB_OFFLINE,
    }


def _disk() -> dict[str, Any]:
    from huggingface_hub import constants

    places = {"hub cache": Path(constants.HF_HUB_CACHE), "working folder": Path.cwd()}
    return {f"free for the {name} (GiB)": _free_gib(path.absolute()) for name, path in places.items()}


def _free_gib(path: Path) -> float:
    folder = next(folder for folder in (path, *path.parents) if folder.is_dir())
    return round(shutil.disk_usage(folder).free / GIB, 1)


def _cpu_line(name: str) -> str | None:
    """A line of Linux's ``/proc/cpuinfo``; ``None`` elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.split("\t")[0].strip() == name), None)


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_shown(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)
