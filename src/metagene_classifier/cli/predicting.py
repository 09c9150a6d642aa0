"""What ``mgc predict`` does with its options: checks first, then the model, then the reads."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from metagene_classifier.cli.outputs import tell_calibration, tell_stream
from metagene_classifier.cli.predict_request import Request, check_together, jobs_of, outputs_of
from metagene_classifier.console import say
from metagene_classifier.model.description import ModelDescription, read_description
from metagene_classifier.model.saved import TAXONOMY_FILE
from metagene_classifier.prediction import scorer as scoring
from metagene_classifier.prediction.calling import Caller, caller_for
from metagene_classifier.prediction.opening import ScorerRecipe, folder_of
from metagene_classifier.prediction.outputs import RunOutputs
from metagene_classifier.prediction.sample_run import CalledSample, ProfileSettings, SampleJob, Score, run_samples
from metagene_classifier.prediction.shard_calls import call_shard, options_of
from metagene_classifier.prediction.shard_facts import model_digest
from metagene_classifier.prediction.shards import Shard, parse_shard
from metagene_classifier.prediction.source import ReadSource
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.reads.taxonomy import Taxonomy

__all__ = ["predict"]


def predict(asked: Request) -> None:
    """Run ``mgc predict``.

    Raises:
        MgcError: one line for the user.
    """
    started = time.monotonic()
    shard = None if asked.shard is None else parse_shard(asked.shard)
    check_together(asked, shard)
    jobs = jobs_of(asked)
    for job in jobs:
        job.source.check_there()
    outputs = outputs_of(asked, shard, jobs)
    folder = folder_of(asked.ckpt).absolute()
    description = read_description(folder)
    caller = caller_for(
        description,
        Taxonomy.load(folder / TAXONOMY_FILE) if description.taxonomy else None,
        confidence=asked.confidence,
        target_precision=asked.target_precision,
        closed_set=asked.closed_set,
        min_tokens=asked.min_tokens,
        paired=jobs[0].source.paired,
        hits=outputs.needs_hits,
        taxonomy=asked.taxonomy,
        tell=say,
    )
    outputs.check_formats(caller.tree)
    recipe = ScorerRecipe(
        folder=folder,
        device=asked.device,
        device_map=asked.device_map,
        quantization=asked.quantization,
        batch_size=asked.batch_size,
        max_tokens=asked.max_tokens,
        long_reads=asked.long_reads,
        trust_remote_code=asked.trust_remote_code,
        cpu_bf16=asked.cpu_bf16,
        strand=asked.strand,
    )
    if shard is not None or asked.csv_of_samples is not None:
        _one_csv(asked, shard, jobs[0].source, recipe, caller)
        tell_calibration(description, folder, asked.strand or description.calling.strand)
        return
    samples, where = _called_samples(asked, jobs, outputs, recipe, description, caller)
    if asked.report is not None:
        _write_report(asked, description, folder, caller, samples, where, time.monotonic() - started)
    tell_calibration(description, folder, asked.strand or description.calling.strand)


def _one_csv(asked: Request, shard: Shard | None, source: ReadSource, recipe: ScorerRecipe, caller: Caller) -> None:
    """A shard, or the calls of a CSV of samples."""
    assert asked.output is not None
    report = StreamReport()
    model, scorer = recipe.open(say)
    if shard is not None:
        written = call_shard(
            scorer,
            model,
            shard,
            caller,
            source=source,
            output=asked.output,
            probabilities=asked.probabilities,
            quantization=asked.quantization or model.description.encoder.quantization,
            cpu_bf16=asked.cpu_bf16,
            block_reads=scoring.READS_PER_BLOCK,
            report=report,
        )
        tell_stream(report, f"{report.reads:,} reads of shard {shard}", written)
        return
    from metagene_classifier.prediction.samples import call_samples

    assert asked.csv_of_samples is not None
    samples = call_samples(
        scorer,
        caller,
        source=source.input,
        output=asked.output,
        aggregation=asked.csv_of_samples.aggregation,
        sample_column=asked.csv_of_samples.sample_column,
        sequence_column=asked.csv_of_samples.sequence_column,
        probabilities=asked.probabilities,
        report=report,
    )
    tell_stream(report, f"{samples:,} samples", asked.output)


def _called_samples(
    asked: Request,
    jobs: list[SampleJob],
    outputs: RunOutputs,
    recipe: ScorerRecipe,
    description: ModelDescription,
    caller: Caller,
) -> tuple[list[CalledSample], dict[str, str]]:
    """All samples through the model, which is loaded once; and where it was, for the report."""
    settings = ProfileSettings()
    lengths: dict[int, int] | None = None
    if outputs.needs_profile:
        from metagene_classifier.calling.confusion import Confusion

        if asked.genome_lengths is not None:
            from metagene_classifier.prediction.profile.genome_lengths import read_genome_lengths

            lengths = read_genome_lengths(asked.genome_lengths, caller.tree)
        calibration = description.calibration
        confusion = Confusion.load(recipe.folder) if calibration is not None and calibration.confusion else None
        settings = ProfileSettings(confusion, asked.bootstraps, lengths, not asked.other_cut_offs(description))
    options = {
        **options_of(asked.strand or description.calling.strand, caller),
        "long reads": asked.long_reads or description.long_reads,
        "quantization": asked.quantization or description.encoder.quantization,
        "--cpu-bf16": asked.cpu_bf16,
        "--probabilities": asked.probabilities,
        "--bootstraps": asked.bootstraps,
        "default cut-offs": settings.default_cut_offs,
        "--genome-lengths": str(sorted((lengths or {}).items())),
    }

    def told(job: SampleJob, sample: CalledSample) -> None:
        which = f"sample {job.name}: " if asked.output_dir is not None else ""
        if sample.was_there:
            say(f"{which}finished by an earlier run")
            return
        for line in sample.report.lines():
            say(f"{which}{line}")
        for line in sample.result.profile.warnings if sample.result is not None else ():
            say(f"{which}profile: {line}")
        what = f"{sample.units:,} {'pairs' if job.source.paired else 'reads'}"
        where = asked.output_dir or asked.output
        if where is not None:
            say(f"{which}{what} written to {'standard output' if str(where) == '-' else where}")
        else:
            say(f"{what} called")

    standard_output = sys.stdout
    with _scoring(asked, jobs, recipe) as (score, where):
        samples = run_samples(
            jobs,
            outputs,
            score,
            caller,
            settings=settings,
            probabilities=asked.probabilities,
            model_sha256=model_digest(description),
            options=options,
            told=told,
            standard_output=standard_output,
        )
    return samples, where


@contextlib.contextmanager
def _scoring(asked: Request, jobs: list[SampleJob], recipe: ScorerRecipe) -> Iterator[tuple[Score, dict[str, str]]]:
    """What scores reads, a model in this process or the workers of a cluster, on which device, and how much at once."""
    if asked.on_ray:
        from metagene_classifier.prediction.on_ray import check_for_ray, scoring_on_ray

        for job in jobs:
            check_for_ray(job.source, recipe.device_map)
        with scoring_on_ray(recipe, workers=asked.workers, block_reads=scoring.READS_PER_BLOCK, tell=say) as there:
            yield there, {"Device": "a cluster of Ray"}
        return
    _, scorer = recipe.open(say)

    def here(source: ReadSource, report: StreamReport) -> Iterator[scoring.ScoredBlock]:
        return scorer.stream_blocks(source.blocks(scoring.READS_PER_BLOCK), report)

    yield here, {"Device": str(scorer.device), "Plan": f"{scorer.budget.tokens:,} tokens at once, {scorer.layout}"}


def _write_report(
    asked: Request,
    description: ModelDescription,
    folder: Path,
    caller: Caller,
    samples: list[CalledSample],
    where: dict[str, str],
    seconds: float,
) -> None:
    from metagene_classifier.report.prediction import write_prediction_report
    from metagene_classifier.report.what_ran import command_line

    assert asked.report is not None
    options = caller.options
    sure = "closed set" if options.closed_set else f"confidence {options.threshold:g}"
    paired = "pairs" if options.paired else "single reads"
    write_prediction_report(
        asked.report,
        [one.result for one in samples if one.result is not None],
        facts={
            "Model": str(folder),
            "Encoder": description.encoder.name,
            "Samples": f"{len(samples):,}",
            "Options": f"{sure}, {asked.strand or description.calling.strand} strand, {paired}",
            **where,
            "Time": f"{seconds:,.0f} s",
            "Command": command_line(),
        },
        warnings=list(dict.fromkeys(line for one in samples for line in one.report.lines())),
        calibrated=description.calibration is not None,
    )
    say(f"report: {asked.report}")
