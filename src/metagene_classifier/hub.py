"""Where an encoder's files are: a folder, an architecture that ships with the package, or the Hugging Face Hub.

Only configuration, tokenizer and safetensors files are ever fetched; pickled weights are not.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metagene_classifier.errors import EncoderError, nearest

__all__ = [
    "METAGENE_1",
    "RESOURCES",
    "RepositorySize",
    "encoder_config_for",
    "fetch_folder",
    "is_local",
    "lasting_name",
    "repository_size_bytes",
    "resolve_encoder_folder",
]

METAGENE_1 = "metagene-ai/METAGENE-1"
RESOURCES = Path(__file__).parent / "resources"
BUILTIN = "builtin:"


@dataclass(frozen=True)
class RepositorySize:
    """What of a hub repository would be fetched, in bytes.

    Attributes:
        total_bytes: of all the files that are wanted.
        to_fetch_bytes: of those that are not in the cache yet.
        has_weights: whether safetensors are among them.
    """

    total_bytes: int
    to_fetch_bytes: int
    has_weights: bool


def is_local(name_or_path: str) -> bool:
    """True for a folder or an architecture of the package: nothing to fetch."""
    return name_or_path.startswith(BUILTIN) or Path(name_or_path).expanduser().is_dir()


def lasting_name(name_or_path: str) -> str:
    """The name under which an encoder is found again from another working directory: a folder's is made absolute."""
    path = Path(name_or_path).expanduser()
    return str(path.resolve()) if not name_or_path.startswith(BUILTIN) and path.is_dir() else name_or_path


def resolve_encoder_folder(
    name_or_path: str,
    revision: str | None = None,
    *,
    weights: bool,
    trust_remote_code: bool = False,
    cache_dir: Path | None = None,
) -> Path:
    """The folder that holds an encoder's files, fetched from the hub where they are not on this machine yet.

    METAGENE-1's configuration ships with the package, so without ``weights`` (and ``revision``) it needs no network.

    Args:
        name_or_path: hub name, folder, or ``builtin:NAME``.
        revision: branch, tag or commit on the hub.
        weights: whether the safetensors are needed, or the configuration and tokenizer alone.
        trust_remote_code: also fetch the repository's Python files.
        cache_dir: the hub cache; that of the environment (``HF_HOME``, ``HF_HUB_CACHE``) by default.

    Raises:
        EncoderError: no such folder, architecture or repository; it is gated, or not cached and out of reach; it holds
            no ``config.json``; ``weights`` are wanted and it holds no whole safetensors.
    """
    if name_or_path.startswith(BUILTIN):
        return _builtin_folder(name_or_path, weights)
    if name_or_path == METAGENE_1 and revision is None and not weights and not is_local(name_or_path):
        return _builtin_folder(f"{BUILTIN}metagene-1", weights)
    folder = fetch_folder(
        name_or_path, revision, weights=weights, trust_remote_code=trust_remote_code, cache_dir=cache_dir
    )
    if not (folder / "config.json").is_file():
        raise EncoderError(f"{name_or_path} holds no config.json, so it is no encoder: give its folder or its hub name")
    if weights:
        _check_weights(name_or_path, folder)
    return folder


def fetch_folder(
    name_or_path: str,
    revision: str | None = None,
    *,
    weights: bool,
    trust_remote_code: bool = False,
    cache_dir: Path | None = None,
) -> Path:
    """A folder as it is, or a hub repository's folder in the cache; whatever it holds.

    Raises:
        EncoderError: no such folder or repository; it is gated, or not cached and out of reach.
    """
    folder = _local_folder(name_or_path)
    if folder is not None:
        return folder
    with _clear_hub_errors(name_or_path, revision, cache_dir):
        if weights:
            _fetch_one_by_one(name_or_path, revision, trust_remote_code, cache_dir)
        return Path(_snapshot(name_or_path, revision, weights, trust_remote_code, cache_dir))


def encoder_config_for(
    name_or_path: str, revision: str | None = None, *, trust_remote_code: bool = False
) -> dict[str, Any]:
    """An encoder's ``config.json`` as it stands.

    Raises:
        EncoderError: as :func:`resolve_encoder_folder`; or the file is not JSON.
    """
    folder = resolve_encoder_folder(name_or_path, revision, weights=False, trust_remote_code=trust_remote_code)
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise EncoderError(f"{path}, line {error.lineno}: not JSON ({error.msg}): fetch or copy it again") from error
    except (OSError, UnicodeDecodeError) as error:
        raise EncoderError(f"{path}: cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise EncoderError(f"{path}: expected an encoder's configuration, found {type(config).__name__}")
    return config


def repository_size_bytes(
    name: str,
    revision: str | None = None,
    *,
    weights: bool = True,
    trust_remote_code: bool = False,
    cache_dir: Path | None = None,
) -> RepositorySize:
    """Ask the hub what :func:`resolve_encoder_folder` would fetch, without fetching it.

    Raises:
        EncoderError: no such repository or revision, gated, or out of reach.
    """
    with _clear_hub_errors(name, revision, cache_dir):
        files = _snapshot(name, revision, weights, trust_remote_code, cache_dir, dry_run=True)
    return RepositorySize(
        total_bytes=sum(file.file_size or 0 for file in files),
        to_fetch_bytes=sum(file.file_size or 0 for file in files if file.will_download),
        has_weights=any(file.filename.endswith(".safetensors") for file in files),
    )


def _builtin_folder(name: str, weights: bool) -> Path:
    known = sorted(f"{BUILTIN}{path.name}" for path in (RESOURCES / "encoders").iterdir() if path.is_dir())
    if name not in known:
        raise EncoderError(f"{name}: no such architecture{nearest(name, known)}: there are {', '.join(known)}")
    if weights:
        raise EncoderError(f"{name} is an architecture without weights: set model.init: random, or name an encoder")
    return RESOURCES / "encoders" / name.removeprefix(BUILTIN)


def _local_folder(name_or_path: str) -> Path | None:
    """The folder that a name means; ``None`` for a name that can only be the hub's."""
    path = Path(name_or_path).expanduser()
    if name_or_path and path.is_dir():
        return path
    if name_or_path and path.exists():
        raise EncoderError(f"{name_or_path} is a file: give the folder that holds the encoder's config.json")
    if not name_or_path or name_or_path[0] in "./~" or name_or_path.count("/") > 1 or "\\" in name_or_path:
        raise EncoderError(
            f"{name_or_path or 'the encoder'}: no such folder: give a folder, a hub name, or builtin:NAME"
        )
    return None


def _snapshot(
    name: str,
    revision: str | None,
    weights: bool,
    trust_remote_code: bool,
    cache_dir: Path | None,
    dry_run: bool = False,
) -> Any:
    from huggingface_hub import snapshot_download
    from tqdm.auto import tqdm

    class Silent(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)  # known to the hub's own bar alone
            super().__init__(*args, **{**options, "disable": True})

    patterns = ["*.json", "*.txt", "*.model"]
    patterns += ["*.safetensors"] if weights else []
    patterns += ["*.py"] if trust_remote_code else []
    return snapshot_download(
        name,
        revision=revision,
        cache_dir=cache_dir,
        allow_patterns=patterns,
        ignore_patterns=["*/*"],
        tqdm_class=Silent,
        dry_run=dry_run,
    )


def _fetch_one_by_one(name: str, revision: str | None, trust_remote_code: bool, cache_dir: Path | None) -> None:
    """Fetch what is not in the cache, one file after another, in this thread.

    The hub's client keeps nothing of a file that was in flight when it was stopped, so one large file in flight is
    better than eight; and its own threads answer Ctrl-C only when their file has ended.
    """
    from huggingface_hub import errors, hf_hub_download

    try:
        files = _snapshot(name, revision, True, trust_remote_code, cache_dir, dry_run=True)
    except errors.DryRunError:
        return  # out of reach: the cache may hold it all
    for file in sorted(files, key=lambda file: (file.file_size or 0, file.filename)):
        if file.will_download:
            hf_hub_download(name, file.filename, revision=file.commit_hash, cache_dir=cache_dir)


def _check_weights(name: str, folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise EncoderError(f"{index}: damaged: fetch or copy it again") from error
        missing = sorted(shard for shard in shards if not (folder / str(shard)).is_file())
        if missing:
            raise EncoderError(
                f"{name}: {len(missing)} of {len(shards)} weight files are missing, {missing[0]} first: "
                "run 'mgc download' again, or copy the whole folder"
            )
        return
    if any(folder.glob("*.safetensors")):
        return
    pickled = next((path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern)), None)
    found = f"only pickled ones ({pickled}), which are never loaded" if pickled else "none at all"
    raise EncoderError(f"{name}: no weights in safetensors, {found}: convert them with save_pretrained")


@contextmanager
def _clear_hub_errors(name: str, revision: str | None, cache_dir: Path | None) -> Iterator[None]:
    from huggingface_hub import errors

    http_error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    try:
        yield
    except (OSError, ValueError, RuntimeError, http_error) as error:
        raise EncoderError(_what_went_wrong(error, name, revision, cache_dir)) from error


def _what_went_wrong(error: Exception, name: str, revision: str | None, cache_dir: Path | None) -> str:
    """One line for anything that the hub's client raises while it looks for ``name``."""
    from huggingface_hub import constants, errors

    if isinstance(error, (errors.DryRunError, errors.LocalEntryNotFoundError)) and isinstance(
        error.__cause__, Exception
    ):
        error = error.__cause__
    cache = cache_dir or constants.HF_HUB_CACHE
    elsewhere = f"run 'mgc download {name}' where there is network, or give a folder"
    if isinstance(error, errors.GatedRepoError):
        return f"{name} is gated: accept its terms at {constants.ENDPOINT}/{name}, then set HF_TOKEN or 'hf auth login'"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{name}: no such folder, and no such repository on {constants.ENDPOINT}: check the spelling; if it is "
            "private, set HF_TOKEN or 'hf auth login'"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name} has no revision {revision!r}: give a branch, tag or commit that it has (model.revision)"
    if isinstance(error, errors.HFValidationError):
        return f"{name}: neither a folder nor a name that the hub allows: give a folder, a hub name, or builtin:NAME"
    if constants.HF_HUB_OFFLINE:
        at = f" at revision {revision!r}" if revision else ""
        return f"{name}{at} is not whole in the cache {cache}, and the hub is offline (HF_HUB_OFFLINE): {elsewhere}"
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        advice = {401: "check HF_TOKEN", 403: "check HF_TOKEN", 404: "check HF_ENDPOINT"}.get(status, "try again later")
        return f"{constants.ENDPOINT} answered {status} for {name}: {advice}, or {elsewhere}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left on the disk of {cache}: free some, or set HF_HOME to a folder on another disk"
    if isinstance(error, PermissionError):
        return f"cannot write {error.filename or cache}: set HF_HOME to a folder that is yours"
    first_line = (str(error).splitlines() or [""])[0]
    reason = f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
    return f"cannot fetch {name} from {constants.ENDPOINT} ({reason}): check the network, or {elsewhere}"
