"""How much memory a run may take, and of what."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from metagene_classifier.memory.cards import Card, known_card
from metagene_classifier.memory.reserve import CONTEXT_BYTES
from metagene_classifier.memory.units import parse_memory

if TYPE_CHECKING:
    import torch

__all__ = ["DeviceMemory", "available_host_bytes", "device_memory", "memory_here", "memory_of_card", "memory_of_host"]

Kind = Literal["cuda", "mps", "cpu"]

_DRIVERS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/System/Library/CoreServices")
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class DeviceMemory:
    """What a run may take.

    Attributes:
        bytes: of the device, with the context in it where ``with_context`` says so.
        name: for people.
        kind: of device.
        bfloat16: whether it computes in bfloat16 (a CPU computes in float32 whatever it can).
        with_context: whether the context is part of ``bytes`` (a whole card, a limit) or there already (free memory).
        host_bytes: of the host, for checkpoints that are kept there; ``None`` where that is not known.
        card: as it is known by name.
    """

    bytes: int
    name: str
    kind: Kind
    bfloat16: bool = True
    with_context: bool = False
    host_bytes: int | None = None
    card: Card | None = None


def memory_of_card(card: Card | None, *, amount: int | None = None, limit: str | None = None) -> DeviceMemory:
    """Memory of a card that need not be here, all of it free.

    Args:
        card: ``None`` for one of which only the memory is known; it is taken to compute in bfloat16.
        amount: bytes, over the card's own.
        limit: ``training.memory_limit``.

    Raises:
        ConfigError: the limit is no amount of memory.
    """
    capacity = amount if amount is not None else card.memory_bytes if card is not None else 0
    if limit is not None:
        capacity = min(capacity, parse_memory(limit, "training.memory_limit"))
    return DeviceMemory(
        capacity,
        card.name if card is not None else "a card",
        "cuda",
        bfloat16=card is None or card.bfloat16,
        with_context=True,
        card=card,
    )


def memory_of_host(amount: int | None = None, limit: str | None = None) -> DeviceMemory:
    """This machine's memory for a run on its CPU; of several ranks on one machine each has its share.

    Args:
        amount: bytes; what is available now by default.
        limit: ``training.memory_limit``.

    Raises:
        ConfigError: the limit is no amount of memory.
    """
    there = _host_share() if amount is None else amount
    if limit is not None:
        there = min(there, parse_memory(limit, "training.memory_limit"))
    return DeviceMemory(there, "this machine's memory" if amount is None else "a machine", "cpu", bfloat16=False)


def device_memory(device: torch.device, limit: str | None) -> DeviceMemory:
    """What is free on a device now, or the limit where that is less; to be asked before the encoder is loaded.

    Args:
        device: as chosen for the run.
        limit: ``training.memory_limit``; on a CUDA device the context counts towards it.

    Raises:
        ConfigError: the limit is no amount of memory.
    """
    import torch

    most = parse_memory(limit, "training.memory_limit") if limit is not None else None
    host = _host_share()
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        name = torch.cuda.get_device_name(device)
        card = known_card(name)
        bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        if most is not None and most < free + CONTEXT_BYTES:
            return DeviceMemory(most, f"training.memory_limit on {name}", "cuda", bfloat16, True, host, card)
        return DeviceMemory(free, name, "cuda", bfloat16, False, host, card)
    if device.type == "mps":
        there = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return DeviceMemory(min(there, most or there), "this Mac's GPU", "mps")
    return memory_of_host(limit=limit)


def memory_here(device: str, limit: str | None, tell: Callable[[str], None]) -> DeviceMemory:
    """The memory of the configuration's device, or of what is here instead; torch is imported only to see a card.

    Raises:
        ConfigError: as :func:`device_memory`; the device does not exist.
    """
    if device == "cpu" or not any(Path(path).exists() for path in _DRIVERS):
        if device not in ("cpu", "auto"):
            tell(
                f"device {device} is not here: planning for this machine's memory (--gpu or --memory plans for a card)"
            )
        return memory_of_host(limit=limit)
    from metagene_classifier.model.devices import choose_device

    return device_memory(choose_device(device, tell), limit)


def _limited(name: str, there: int, limit: int | None) -> str:
    return f"training.memory_limit of {name}" if limit is not None and limit < there else name


def available_host_bytes() -> int:
    """Memory that this machine can give without swapping, within the limit of a container."""
    import psutil

    available = int(psutil.virtual_memory().available)
    for folder, names in _cgroups():
        most, now = _number(folder / names[0]), _number(folder / names[1])
        if most is not None and now is not None:
            # Cached files count as used and are given up when memory is asked for.
            available = min(available, most - now + _inactive_file_bytes(folder / "memory.stat"))
    return max(0, available)


def _host_share() -> int:
    return available_host_bytes() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _cgroups() -> Iterator[tuple[Path, tuple[str, str]]]:
    """The groups that this process is limited by, its own and those around it, with the names of limit and use."""
    new, old = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
    try:
        lines = _OWN_CGROUPS.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    paths = {"": "/", "memory": "/"}  # by controllers; in a container the root is its own group
    for line in lines:
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys([""] if not controllers else controllers.split(","), path)
    for name, root, names in (("", _CGROUPS, new), ("memory", _CGROUPS / "memory", old)):
        own = PurePosixPath(paths[name])
        for part in (own, *own.parents):
            yield root / str(part).lstrip("/"), names


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() else None


def _inactive_file_bytes(path: Path) -> int:
    try:
        rows = dict(line.split(" ", 1) for line in path.read_text(encoding="ascii").splitlines() if " " in line)
        return int(rows.get("total_inactive_file", rows.get("inactive_file", "0")))
    except (OSError, ValueError):
        return 0
