"""``mgc merge``."""

from __future__ import annotations

from pathlib import Path

import click

from metagene_classifier.console import say

__all__ = ["command"]


@click.command("merge")
@click.argument("shards", nargs=-1, type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path), help="CSV; - is standard output.")
def command(shards: tuple[Path, ...], output: Path) -> None:
    """Join the shards of mgc predict --shard into what a single run would have written.

    SHARDS are their CSVs, or folders that hold them; without any, those that were written with the same --output:
    calls.1-of-8.csv to calls.8-of-8.csv for calls.csv. All must be there, whole, and of the same reads, model and
    options.
    """
    from metagene_classifier.cli.outputs import tell_stream
    from metagene_classifier.errors import ConfigError
    from metagene_classifier.prediction.merging import find_shards, join_shards, what_differs
    from metagene_classifier.prediction.shard_facts import facts_path
    from metagene_classifier.whole_files import check_output_file

    to_file = str(output) != "-"
    if not to_file and not shards:
        raise ConfigError("--output -: name the shards to join")
    found = find_shards(shards, output)
    if to_file:
        check_output_file(output, [path for one in found for path in (one.csv, facts_path(one.csv))])
    for line in what_differs(found):
        say(f"shards were computed differently ({line}): scores may differ in their last digits from a single run's")
    report = join_shards(found, output)
    tell_stream(report, f"{report.reads:,} reads of {len(found)} shards", output)
