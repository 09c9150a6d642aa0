"""``mgc download``."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from metagene_classifier.console import say
from metagene_classifier.errors import EncoderError

__all__ = ["command"]

GIB = 2**30


@click.command("download")
@click.argument("name")
@click.option("--revision", default=None, help="Branch, tag or commit.")
@click.option(
    "--cache-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Hub cache to fill; that of HF_HOME or HF_HUB_CACHE by default.",
)
@click.option("--trust-remote-code", is_flag=True, help="Fetch the repository's Python files too; none of them is run.")
def command(name: str, revision: str | None, cache_dir: Path | None, trust_remote_code: bool) -> None:
    """Fetch an encoder, such as metagene-ai/METAGENE-1, and print the folder that it is in.

    Nothing is fetched when the disk is too small. After an interruption the same command goes on: files that are whole
    stay. Offline (HF_HUB_OFFLINE=1) it prints the folder that is in the cache.
    """
    from metagene_classifier.hub import is_local, resolve_encoder_folder

    if is_local(name):
        say(f"{name} is on this machine already: nothing to fetch")
        print(resolve_encoder_folder(name, weights=False))
        return
    _check_disk(name, revision, cache_dir, trust_remote_code)
    try:
        folder = resolve_encoder_folder(
            name, revision, weights=True, trust_remote_code=trust_remote_code, cache_dir=cache_dir
        )
    except KeyboardInterrupt:
        say("stopped: the same command goes on; files that are whole stay")
        raise
    if cache_dir is not None:
        say(f"set HF_HUB_CACHE={cache_dir} for the other commands to find it")
    print(folder)


def _check_disk(name: str, revision: str | None, cache_dir: Path | None, trust_remote_code: bool) -> None:
    """Refuse before the first byte is fetched what does not fit or cannot be used.

    Raises:
        EncoderError: too little free disk, or no safetensors in the repository.
    """
    from huggingface_hub import constants

    from metagene_classifier.hub import repository_size_bytes

    if constants.HF_HUB_OFFLINE:
        return
    try:
        size = repository_size_bytes(name, revision, trust_remote_code=trust_remote_code, cache_dir=cache_dir)
    except EncoderError:
        return  # the same comes out of fetching, unless the cache holds it all
    if not size.has_weights:
        raise EncoderError(f"{name} has no weights in safetensors, and pickled ones are never loaded: name another")
    cache = Path(cache_dir or constants.HF_HUB_CACHE).expanduser().absolute()
    disk = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    free = shutil.disk_usage(disk).free
    if size.to_fetch_bytes > free:
        raise EncoderError(
            f"{name} needs {size.to_fetch_bytes / GIB:.2f} GiB more and the disk of {cache} has {free / GIB:.2f} GiB "
            "free: free some, or set HF_HOME (or --cache-dir) to a folder on another disk"
        )
    if size.to_fetch_bytes:
        say(f"fetching {size.to_fetch_bytes / GIB:.2f} GiB of {size.total_bytes / GIB:.2f} GiB into {cache}")
