"""Prediction reads a second, from file to CSV, against the same model on reads padded to 512 tokens.

    python benchmarks/predict_throughput.py [--quick] [--json PATH]

The model is a Llama of 3.4 million parameters in float32; the reads are 150 bp of a real genome. The two sides take
turns in one run, so that a busy machine slows both.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from setting import (
    CLASSES,
    PADDED_TOKENS,
    PaddedClassifier,
    framing,
    machine,
    metagene_tokenizer,
    padded_rows,
    reads_of_genome,
    record,
    small_classifier,
    small_llama,
)
from training_throughput import reads_per_second

from metagene_classifier.calling.calibrated import Calibrator
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.model.out_of_memory import TokenBudget
from metagene_classifier.prediction.call import Call
from metagene_classifier.prediction.calling import Caller, CallOptions
from metagene_classifier.prediction.formats.csv_calls import CallsCsv
from metagene_classifier.prediction.formats.writing import FormatContext
from metagene_classifier.prediction.opening import has_bf16_units
from metagene_classifier.prediction.reads import call_reads, format_file
from metagene_classifier.prediction.scorer import READS_PER_BLOCK, Scorer
from metagene_classifier.prediction.shards import Census, Shard
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.prediction.token_budget import DEFAULT_MAX_TOKENS
from metagene_classifier.reads.blocks import in_blocks
from metagene_classifier.reads.files import read_records
from metagene_classifier.reads.labels import ClassLabel, Labels

PADDED_READS = 16
MANY_CLASSES = 3507


def many_classes() -> int:
    """Rows of a CSV with the probabilities of as many classes as a large model has."""
    values = np.random.default_rng(0).random((256, MANY_CLASSES), np.float32) / MANY_CLASSES
    calls = [Call(f"r{row}", "a", 1, "", 0.5, 150, "", values[row], 1, 0, (), ()) for row in range(len(values))]
    CallsCsv([str(number) for number in range(MANY_CLASSES)]).rows(calls)
    return len(calls)


@click.command()
@click.option("--quick", is_flag=True, help="Fewer rounds: under a minute on two cores.")
@click.option("--max-tokens", type=int, default=None, help="Tokens at once; as mgc predict has it by default.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here too.")
def main(quick: bool, max_tokens: int | None, json_path: Path | None) -> None:
    """Reads a second in prediction, and how many times that of padding to 512."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = metagene_tokenizer()
    frame = framing(tokenizer)
    ours, layout = small_classifier(device)
    ours.eval()
    model_seconds = 0.0

    def timed(batch: Any) -> torch.Tensor:
        nonlocal model_seconds
        started = time.perf_counter()
        scores = ours(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        model_seconds += time.perf_counter() - started
        return scores

    budget = max_tokens or DEFAULT_MAX_TOKENS[device.type]
    scorer = Scorer(timed, CLASSES, tokenizer, frame, layout, TokenBudget(budget), device, "window")
    labels = Labels(tuple(ClassLabel(str(number), f"class {number}") for number in range(CLASSES)))
    tree = ClassTree.of(labels)
    caller = Caller(labels, tree, Calibrator(None), CallOptions(hits=False))
    context = FormatContext("reads", labels, tree, paired=False, probabilities=False, program="benchmark")
    padded = PaddedClassifier(small_llama(device)).eval()
    sequences = reads_of_genome(2048 if quick else 16384)
    segments = [frame.frame(tokens) for tokens in tokenizer.encode_batch(sequences[:PADDED_READS])]
    no_model = replace(scorer, run=lambda batch: torch.zeros(batch.segments, CLASSES))

    half, _ = small_classifier(device)
    half.encoder.to(torch.bfloat16)
    half.compute_dtype = torch.bfloat16
    in_bfloat16 = replace(scorer, run=half.eval())

    with tempfile.TemporaryDirectory() as folder:
        fastq = Path(folder) / "reads.fq"
        fastq.write_text(
            "".join(f"@r{number}\n{sequence}\n+\n{'I' * len(sequence)}\n" for number, sequence in enumerate(sequences))
        )

        def file_to_csv(by: Scorer = scorer) -> int:
            blocks = by.stream(read_records(fastq), StreamReport())
            return call_reads(blocks, caller, [format_file("csv", Path(folder) / "calls.csv", context)])

        def file_to_scores() -> int:
            return sum(len(block.reads) for block in scorer.stream(read_records(fastq), StreamReport()))

        def passed_over() -> int:
            census = Census()
            assert not list(Shard(1000, 1000).own(census.watch(in_blocks(read_records(fastq), READS_PER_BLOCK))))
            return census.reads

        def padded_batch() -> int:
            with torch.inference_mode():
                padded(*(part.to(device) for part in padded_rows(segments)))
            return PADDED_READS

        sides = {"ours": file_to_csv, "scores": file_to_scores, "padded": padded_batch}
        if device.type == "cpu" and has_bf16_units():
            sides["bf16"] = lambda: file_to_csv(in_bfloat16)
        started = time.perf_counter()
        file_to_csv()
        share = model_seconds / (time.perf_counter() - started)
        rates = reads_per_second(sides, seconds=4 if quick else 15, rounds=2 if quick else 3)
        around = {"no_model": lambda: file_to_csv(no_model), "passed_over": passed_over, "all_classes": many_classes}
        rates |= reads_per_second(around, seconds=2 if quick else 5, rounds=2 if quick else 3)

    tokens = [len(segment) for segment in segments]
    figures: dict[str, Any] = {
        "reads_per_s": rates["ours"],
        "without_writing_reads_per_s": rates["scores"],
        "without_the_model_reads_per_s": rates["no_model"],
        "passed_over_by_a_shard_reads_per_s": rates["passed_over"],
        f"rows_of_{MANY_CLASSES}_probabilities_per_s": rates["all_classes"],
        "padded_512_reads_per_s": rates["padded"],
        "speedup_over_padded_512": rates["ours"] / rates["padded"],
        "token_ratio": PADDED_TOKENS * len(tokens) / sum(tokens),
        "model_share_of_time": share,
        "layout": layout,
        "max_tokens": budget,
        **machine(device),
    }
    print(f"{'padded to 512, model alone':<32}{rates['padded']:>10.1f} reads/s")
    print(f"{'this project, file to CSV':<32}{rates['ours']:>10.1f} reads/s  ({share:.1%} of the time in the model)")
    print(f"{'  file to scores':<32}{rates['scores']:>10.1f} reads/s")
    if "bf16" in rates:
        figures["cpu_bf16_reads_per_s"] = rates["bf16"]
        print(f"{'  with --cpu-bf16':<32}{rates['bf16']:>10.1f} reads/s")
    print(f"{'  all but the model':<32}{rates['no_model']:>10.0f} reads/s")
    print(f"{'  of another shard, passed over':<32}{rates['passed_over']:>10.0f} reads/s")
    print(f"{f'  CSV, {MANY_CLASSES} probabilities':<32}{rates['all_classes']:>10.0f} reads/s")
    print(f"{'speed-up':<32}{figures['speedup_over_padded_512']:>10.1f} times  (layout {layout}, {budget} tokens)")
    record(figures, json_path)


if __name__ == "__main__":
    main()
