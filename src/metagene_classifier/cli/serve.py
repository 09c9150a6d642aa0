"""``mgc serve``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import click

from metagene_classifier.cli.options import (
    calling_options,
    ckpt_option,
    device_option,
    long_reads_option,
    quantization_option,
    scoring_memory_options,
    trust_option,
)

__all__ = ["command"]

NEEDED = ("fastapi", "multipart", "uvicorn")


@click.command("serve")
@ckpt_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is all of them.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option(
    "--allow-host", "names", multiple=True, metavar="NAME", help="A name by which browsers may ask for this server."
)
@click.option(
    "--max-reads", type=click.IntRange(min=1), default=20_000, show_default=True, help="Of a request; mates count."
)
@click.option(
    "--max-bytes",
    type=click.IntRange(min=1),
    default=32 * 2**20,
    show_default=True,
    help="Of a request, and of the text that it decompresses to.",
)
@click.option(
    "--max-read-length", type=click.IntRange(min=1), default=200_000, show_default=True, help="Bases of a read."
)
@click.option(
    "--max-queued", type=click.IntRange(min=1), default=32, show_default=True, help="Requests that wait for the model."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    help="Seconds until a request is answered or refused.",
)
@click.option(
    "--keep-minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="How long results can be downloaded; they are held in memory.",
)
@calling_options
@scoring_memory_options
@quantization_option
@long_reads_option
@device_option
@click.option("--device-map", type=click.Choice(["auto"]), default=None, help="Spread the encoder over all devices.")
@click.option(
    "--cpu-bf16",
    is_flag=True,
    help="Compute in bfloat16 on a CPU that has units for it: faster, in half the memory; scores shift a little.",
)
@trust_option
def command(
    ckpt: str,
    host: str,
    port: int,
    names: tuple[str, ...],
    max_reads: int,
    max_bytes: int,
    max_read_length: int,
    max_queued: int,
    timeout: float,
    keep_minutes: float,
    confidence: float | None,
    target_precision: float | None,
    closed_set: bool,
    min_tokens: int | None,
    strand: Literal["single", "average"] | None,
    taxonomy: Path | None,
    batch_size: int | None,
    max_tokens: int | None,
    quantization: Literal["none", "int8", "nf4"] | None,
    long_reads: Literal["window", "truncate", "error"] | None,
    device: str,
    device_map: str | None,
    cpu_bf16: bool,
    trust_remote_code: bool,
) -> None:
    """Call reads on a page of your browser, or by a JSON API, over one model.

    Only this machine can reach it unless --host says otherwise: there are no users and no passwords.
    """
    from importlib.util import find_spec

    from metagene_classifier.errors import ConfigError

    if any(find_spec(name) is None for name in NEEDED):
        raise ConfigError("mgc serve needs the extra serve: pip install 'metagene-classifier[serve]'")

    import os
    import sys

    from metagene_classifier.cli.outputs import tell_calibration
    from metagene_classifier.console import say
    from metagene_classifier.serving.running import address_of, bound_socket, is_loopback, listen

    bound = bound_socket(host, port)  # a taken port is told before the model is loaded

    from metagene_classifier.calling.confusion import Confusion
    from metagene_classifier.prediction.calling import caller_of, check_cut_offs
    from metagene_classifier.prediction.opening import ScorerRecipe, folder_of
    from metagene_classifier.serving.app import ServedModel, make_app
    from metagene_classifier.serving.limits import Limits
    from metagene_classifier.serving.worker import ModelWorker

    check_cut_offs(confidence, target_precision, closed_set)
    if not math.isfinite(keep_minutes) or not math.isfinite(timeout):
        raise ConfigError("--keep-minutes and --timeout are times: give finite numbers")
    folder = folder_of(ckpt).absolute()
    recipe = ScorerRecipe(
        folder=folder,
        device=device,
        device_map=device_map,
        quantization=quantization,
        batch_size=batch_size,
        max_tokens=max_tokens,
        long_reads=long_reads,
        trust_remote_code=trust_remote_code,
        cpu_bf16=cpu_bf16,
        strand=strand,
    )
    model, scorer = recipe.open(say)
    caller = caller_of(
        model,
        confidence=confidence,
        target_precision=target_precision,
        closed_set=closed_set,
        min_tokens=min_tokens,
        taxonomy=taxonomy,
        tell=say,
    )
    own = caller_of(model)
    tell_calibration(model.description, folder, scorer.strand)
    calibration = model.description.calibration
    limits = Limits(
        max_bytes=max_bytes,
        max_reads=max_reads,
        max_read_bp=max_read_length,
        timeout_s=timeout,
        max_queued=max_queued,
        keep_s=60 * keep_minutes,
    )
    worker = ModelWorker(scorer, max_queued=max_queued)
    server = listen(None)
    server.config.app = make_app(
        worker,
        caller,
        ServedModel(
            name=_name_of(ckpt),
            encoder=model.description.encoder.name,
            strand=scorer.strand,
            confusion=Confusion.load(folder) if calibration is not None and calibration.confusion else None,
            default_cut_offs=caller.options == own.options and bool(model.taxonomy) == caller.tree.has_taxonomy,
            screening=model.description.calling,
            min_tokens=min_tokens,
        ),
        limits,
        hosts=(host, *names),
        stopping=server.stops.is_set,
    )
    if not is_loopback(bound):
        say(
            f"warning: listening on {host}: whoever reaches port {bound.getsockname()[1]} of this machine can call "
            "reads, without a password, and what they send is not encrypted"
        )
    worker.start()
    say(f"calling reads at {address_of(bound)} (Ctrl-C ends it)")
    server.run(sockets=[bound])
    if not worker.stop():
        say("stopped in the middle of a block of reads")
        sys.stderr.flush()
        os._exit(0)  # a thread that computes would be torn down in the middle, with noise
    say("stopped")


def _name_of(ckpt: str) -> str:
    """What people call a model: the folder that they named, without where it is."""
    return Path(ckpt).absolute().name
