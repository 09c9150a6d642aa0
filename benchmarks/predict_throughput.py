"""Prediction reads a second, from file to CSV, against the same model on reads padded to 512 tokens.

    python benchmarks/predict_throughput.py [--quick] [--json PATH]

The model is a Llama of 3.4 million parameters in float32; the reads are 150 bp of a real genome. The two sides take
turns in one run, so that a busy machine slows both.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import click
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

from metagene_classifier.model.out_of_memory import TokenBudget
from metagene_classifier.prediction.reads import call_reads
from metagene_classifier.prediction.scorer import Scorer, StreamReport
from metagene_classifier.prediction.token_budget import DEFAULT_MAX_TOKENS
from metagene_classifier.reads.labels import ClassLabel, Labels

PADDED_READS = 16


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
    padded = PaddedClassifier(small_llama(device)).eval()
    sequences = reads_of_genome(4096 if quick else 16384)
    segments = [frame.frame(tokens) for tokens in tokenizer.encode_batch(sequences[:PADDED_READS])]

    with tempfile.TemporaryDirectory() as folder:
        fasta = Path(folder) / "reads.fa"
        fasta.write_text("".join(f">r{number}\n{sequence}\n" for number, sequence in enumerate(sequences)))

        def file_to_csv() -> int:
            report = StreamReport()
            call_reads(
                scorer,
                labels,
                source=str(fasta),
                output=Path(folder) / "calls.csv",
                probabilities=False,
                report=report,
            )
            return report.reads

        def padded_batch() -> int:
            with torch.inference_mode():
                padded(*(part.to(device) for part in padded_rows(segments)))
            return PADDED_READS

        sides = {"ours": file_to_csv, "padded": padded_batch}
        started = time.perf_counter()
        file_to_csv()
        first = time.perf_counter() - started
        share = model_seconds / first
        rates = reads_per_second(sides, seconds=4 if quick else 15, rounds=2 if quick else 3)

    tokens = [len(segment) for segment in segments]
    figures: dict[str, Any] = {
        "reads_per_s": rates["ours"],
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
    print(f"{'speed-up':<32}{figures['speedup_over_padded_512']:>10.1f} times  (layout {layout}, {budget} tokens)")
    record(figures, json_path)


if __name__ == "__main__":
    main()
