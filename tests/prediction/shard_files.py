"""Shards as ``mgc predict --shard`` leaves them, of rows that stand for calls."""

from __future__ import annotations

import hashlib
from pathlib import Path

from metagene_classifier.prediction.shard_facts import SCHEMA_VERSION, ShardFacts, noticed_of, write_facts
from metagene_classifier.prediction.shards import Shard, shard_path
from metagene_classifier.prediction.stream_report import StreamReport

HEADER = "read_id,call\n"


def write_shard(folder: Path, rows: list[str], which: str, block_reads: int = 2, **changes: object) -> Path:
    """One shard of the rows of a whole file, into ``calls.<i>-of-<n>.csv``."""
    number, count = map(int, which.split("/"))
    blocks = [rows[start : start + block_reads] for start in range(0, len(rows), block_reads)]
    own = ["".join(block) for block in blocks[number - 1 :: count]]
    text = HEADER + "".join(own)
    csv = shard_path(folder / "calls.csv", Shard(number, count))
    csv.write_text(text, encoding="utf-8", newline="")
    facts: dict[str, object] = {
        "schema_version": SCHEMA_VERSION,
        "package_version": "1",
        "shard": number,
        "shards": count,
        "input": "reads.fq",
        "input_reads": len(rows),
        "input_sha256": "of the reads",
        "model": "run/best",
        "model_sha256": "of the model",
        "options": {"long reads": "window", "probabilities": False, "quantization": "none"},
        "circumstances": {"device": "cpu", "tokens at once": 2048},
        "block_reads": block_reads,
        "header_bytes": len(HEADER),
        "block_bytes": [len(block.encode()) for block in own],
        "csv_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "noticed": noticed_of(StreamReport(reads=sum(map(len, blocks[number - 1 :: count])), empty=1)),
    }
    write_facts(csv, ShardFacts.model_validate(facts | changes))
    return csv


def write_shards(folder: Path, rows: list[str], count: int, block_reads: int = 2) -> list[Path]:
    """All shards."""
    return [write_shard(folder, rows, f"{number}/{count}", block_reads) for number in range(1, count + 1)]
