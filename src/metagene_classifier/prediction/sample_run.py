"""One sample after another through a model: its calls, its profile, its files; tables over all of them at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from metagene_classifier import __version__
from metagene_classifier.errors import MgcError
from metagene_classifier.prediction.calling import Caller
from metagene_classifier.prediction.formats.registry import write_sample, write_table
from metagene_classifier.prediction.formats.writing import FormatContext
from metagene_classifier.prediction.outputs import RunOutputs, SampleOutputs
from metagene_classifier.prediction.reads import call_reads
from metagene_classifier.prediction.sample_facts import SampleFacts, finished_facts, input_facts, output_sizes
from metagene_classifier.prediction.scorer import ScoredBlock
from metagene_classifier.prediction.source import ReadSource
from metagene_classifier.prediction.stream_report import StreamReport

if TYPE_CHECKING:
    from metagene_classifier.calling.confusion import Confusion
    from metagene_classifier.prediction.profile.result import SampleResult
    from metagene_classifier.prediction.profile.tally import SampleTally

__all__ = ["CalledSample", "ProfileSettings", "SampleJob", "Score", "run_samples"]

Score = Callable[[ReadSource, StreamReport], Iterator[ScoredBlock]]
"""Scores the reads of a source in order, and counts what it notices."""


@dataclass(frozen=True)
class SampleJob:
    """A sample and where its reads are."""

    name: str
    source: ReadSource


@dataclass(frozen=True)
class ProfileSettings:
    """How abundances are estimated.

    Attributes:
        confusion: of the model, where it has one.
        bootstraps: samples drawn again for the intervals.
        genome_lengths: in bases, by place in the tree; ``None`` for shares of reads.
        default_cut_offs: whether reads are refused as they were when the confusions were counted.
    """

    confusion: Confusion | None = None
    bootstraps: int = 100
    genome_lengths: Mapping[int, int] | None = None
    default_cut_offs: bool = True


@dataclass(frozen=True)
class CalledSample:
    """What became of a sample.

    Attributes:
        units: reads, or pairs, that were called.
        report: what was noticed.
        tally: its calls, counted, where anything is to be kept of them.
        result: tally and profile, where anything is wanted of the sample as a whole.
        was_there: it was finished by an earlier run.
    """

    units: int
    report: StreamReport
    tally: SampleTally | None = None
    result: SampleResult | None = None
    was_there: bool = False


def run_samples(
    jobs: Sequence[SampleJob],
    outputs: RunOutputs,
    score: Score,
    caller: Caller,
    *,
    settings: ProfileSettings,
    probabilities: bool,
    model_sha256: str,
    options: dict[str, str | bool | int | float],
    told: Callable[[SampleJob, CalledSample], None],
    standard_output: IO[str] | None = None,
) -> list[CalledSample]:
    """Call all samples and write their files.

    Args:
        jobs: the samples, in order.
        outputs: of them, in the same order.
        score: scores reads.
        caller: calls them.
        settings: of the profiles.
        probabilities: of all classes, in formats that have room for them.
        model_sha256: by which the model is known again.
        options: what decides the files beside reads and model.
        told: called when a sample is finished.
        standard_output: what standard output is, when it is not that of the moment.

    Raises:
        MgcError: a sample cannot be read or written; the line names it, and the files of those before it stay.
        KeyboardInterrupt: likewise.
    """
    done: list[CalledSample] = []
    for place, (job, files) in enumerate(zip(jobs, outputs.samples, strict=True)):
        facts_path = outputs.facts[place] if outputs.facts else None
        paths = files.paths(job.source.paired)
        called = None
        inputs = input_facts(job.source)
        if facts_path is not None and "-" not in job.source.files:
            facts = finished_facts(facts_path, inputs=inputs, model_sha256=model_sha256, options=options, outputs=paths)
            called = _from_facts(facts, job, caller, settings, outputs.needs_profile) if facts is not None else None
        if called is None:
            if facts_path is not None:
                facts_path.unlink(missing_ok=True)
            try:
                called = _call(
                    job,
                    files,
                    score,
                    caller,
                    settings,
                    probabilities=probabilities,
                    counted=outputs.needs_profile or bool(outputs.facts),
                    profiled=outputs.needs_profile,
                    standard_output=standard_output,
                )
            except MgcError as error:
                if len(jobs) == 1 and facts_path is None:
                    raise
                before = f" (finished before it: {place} of {len(jobs)}; run again to go on)" if place else ""
                raise type(error)(f"sample {job.name}: {error}{before}") from error
            if facts_path is not None and called.tally is not None:
                SampleFacts(
                    sample=job.name,
                    inputs=inputs,
                    model_sha256=model_sha256,
                    options=options,
                    outputs=output_sizes(paths),
                    units=called.units,
                    tally=called.tally.as_json(),
                    noticed=called.report.as_json(),
                ).write(facts_path)
        done.append(called)
        told(job, called)
    results = [one.result for one in done if one.result is not None]
    for one, path in outputs.tables:
        write_table(one.name, path, results)
    return done


def _call(
    job: SampleJob,
    files: SampleOutputs,
    score: Score,
    caller: Caller,
    settings: ProfileSettings,
    *,
    probabilities: bool,
    counted: bool,
    profiled: bool,
    standard_output: IO[str] | None,
) -> CalledSample:
    context = FormatContext(
        sample=job.name,
        labels=caller.labels,
        tree=caller.tree,
        paired=job.source.paired,
        probabilities=probabilities,
        program=f"metagene-classifier {__version__}",
    )
    report = StreamReport()
    caller = caller.of_pairs(job.source.paired)
    tally = None
    if counted:
        from metagene_classifier.prediction.profile.tally import SampleTally

        tally = SampleTally(caller.tree)
    units = call_reads(
        score(job.source, report),
        caller,
        files.call_files(context, caller),
        tally=tally,
        standard_output=standard_output,
    )
    if tally is None or not profiled:
        return CalledSample(units, report, tally)
    result = _result(job, tally, caller, settings)
    for one, path in files.summaries:
        write_sample(one.name, path, result)
    return CalledSample(units, report, tally, result)


def _result(job: SampleJob, tally: SampleTally, caller: Caller, settings: ProfileSettings) -> SampleResult:
    from metagene_classifier.prediction.profile.estimate import estimate_profile
    from metagene_classifier.prediction.profile.result import SampleResult

    profile = estimate_profile(
        job.name,
        tally,
        caller.tree,
        settings.confusion,
        bootstraps=settings.bootstraps,
        seed=0,
        genome_lengths=settings.genome_lengths,
        default_cut_offs=settings.default_cut_offs,
    )
    return SampleResult(job.name, tally, caller.tree, profile, job.source.name)


def _from_facts(
    facts: SampleFacts, job: SampleJob, caller: Caller, settings: ProfileSettings, profiled: bool
) -> CalledSample | None:
    from metagene_classifier.prediction.profile.tally import SampleTally

    try:
        tally = SampleTally.from_json(facts.tally, caller.tree)
        report = StreamReport.from_json(facts.noticed)
    except ValueError:
        return None
    result = _result(job, tally, caller, settings) if profiled else None
    return CalledSample(facts.units, report, tally, result, was_there=True)
