"""A plan as a table for people and as figures for machines."""

from __future__ import annotations

from typing import Any

from metagene_classifier.memory.fit import FitChoice
from metagene_classifier.memory.plan import PART_NAMES, MemoryPlan, WayPlan
from metagene_classifier.memory.units import GIB, gib_text

__all__ = ["plan_facts", "plan_table"]

_HEADS = ("weights", "adapters", "gradients", "optimizer", "activations", "temporary", "reserve")
LEGEND = (
    "GiB at the moment when a step takes most. adapters: with the head. reserve: the driver's context and what the",
    "allocator holds beside tensors (stated, not measured). +host: checkpoints in the host's memory, beside it in (). ",
    "tokens: as many at once as fit, up to 65,536 (4,096 but on a card); reads: of {mean:.0f} tokens, so many at once.",
)


def plan_table(plan: MemoryPlan) -> list[str]:
    """Lines: a row for every way, and what the columns mean."""
    width = max(len(row.way.name) for row in plan.ways)
    heads = "".join(f"{head:>{len(head) + 2}}" for head in _HEADS)
    lines = [f"{'way':<{width}}{'peak':>7}{heads}  {'fits':<5}{'tokens':>7}{'reads':>7}  hours per million reads"]
    for row in plan.ways:
        parts = row.parts()
        cells = "".join(
            f"{gib_text(parts[name]):>{len(head) + 2}}" for name, head in zip(PART_NAMES, _HEADS, strict=True)
        )
        lines.append(
            f"{row.way.name:<{width}}{gib_text(row.need.peak):>7}{cells}  {'yes' if row.fits else 'no':<5}"
            f"{_count(row.max_tokens):>7}{_count(row.max_reads):>7}  {_hours(row)}{_host(row)}"
        )
    return [*lines, *(line.format(mean=plan.lengths.mean).rstrip() for line in LEGEND)]


def plan_facts(plan: MemoryPlan, choice: FitChoice | None, problem: str | None) -> dict[str, Any]:
    """The same as one object; sizes in GiB, of each way the parts sum to ``peak_gib``.

    Args:
        plan: every way.
        choice: the way that training would take.
        problem: why it would take none.
    """
    memory = plan.memory
    return {
        "encoder": {
            "name": plan.shape.name,
            "parameters": plan.shape.parameters,
            "layers": plan.shape.layers,
            "derived_for_this_architecture": plan.shape.exact,
        },
        "memory_gib": memory.bytes / GIB,
        "device": memory.kind,
        "ranks": max(row.way.ranks for row in plan.ways),
        "card": memory.card.name if memory.card is not None else None,
        "longest_segment": plan.lengths.longest,
        "tokens_per_read": plan.lengths.mean,
        "tokens_of_peak": plan.tokens,
        "chosen": _choice_facts(choice) if choice is not None else None,
        "problem": problem,
        "ways": [
            {
                "name": row.way.name,
                "peak_gib": row.need.peak / GIB,
                "parts": {name: amount / GIB for name, amount in row.parts().items()},
                "host_gib": row.need.host_bytes / GIB,
                "fits": row.fits,
                "max_tokens": row.max_tokens,
                "max_reads": row.max_reads,
                "tokens_per_s": row.tokens_per_s,
                "seconds_per_million_reads": row.seconds_per_million_reads,
            }
            for row in plan.ways
        ],
    }


def _choice_facts(choice: FitChoice) -> dict[str, Any]:
    return {
        "name": choice.way.name,
        "quantization": choice.quantization,
        "gradient_checkpointing": choice.gradient_checkpointing,
        "checkpoint_every": choice.checkpoint_every,
        "checkpoint_offload": choice.checkpoint_offload,
        "parallel": "fsdp" if choice.way.ranks > 1 else "ddp",
        "max_tokens": choice.max_tokens,
        "peak_gib": choice.need.peak / GIB,
        "line": choice.line(),
    }


def _count(number: int | None) -> str:
    return f"{number:,}" if number is not None else "-"


def _hours(row: WayPlan) -> str:
    seconds = row.seconds_per_million_reads
    return f"{seconds / 3600:.2f}" if seconds is not None else "unknown"


def _host(row: WayPlan) -> str:
    return f"  ({gib_text(row.need.host_bytes)})" if row.need.host_bytes else ""
