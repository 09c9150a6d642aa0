"""``mgc download`` against a stand-in for the hub on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

COMMIT = "a" * 40
CONFIG = json.dumps({"model_type": "llama", "vocab_size": 1024}).encode()
FILES = {
    "README.md": b"never wanted",
    "config.json": CONFIG,
    "model-1.safetensors": b"1" * 300_000,
    "model-2.safetensors": b"2" * 400_000,
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    ).encode(),
    "modeling.py": b"raise SystemExit('never run')",
    "onnx/model.json": b"{}",
    "pytorch_model.bin": b"a pickle, never wanted",
}


class StandIn(http.server.ThreadingHTTPServer):
    """The few answers of the hub that a download needs."""

    daemon_threads = True

    def __init__(self, repositories: dict[str, dict[str, bytes]], gated: tuple[str, ...] = ()) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.repositories = repositories
        self.gated = gated
        self.fetched: list[tuple[str, str | None]] = []  # file and Range header of every GET
        self.drop_once: set[str] = set()  # files whose connection breaks in the middle, one time
        self.hold: set[str] = set()  # files that never end
        self.holding = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def log_message(self, *_: object) -> None:
        pass

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer_json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET(head=True)

    def do_GET(self, head: bool = False) -> None:
        path = self.path.partition("?")[0]
        match = re.fullmatch(r"/(?:api/models/)?(org/[^/]+)(?:/(revision|tree|resolve)/([^/]+)(?:/(.+))?)?", path)
        if match is None or match[1] not in self.server.repositories:
            return self.refuse(404, "RepoNotFound")
        name, what, revision, file = match.groups()
        if name in self.server.gated and what == "resolve":
            return self.refuse(403, "GatedRepo")
        if revision not in (None, "main", COMMIT):
            return self.refuse(404, "RevisionNotFound")
        files = self.server.repositories[name]
        if what == "tree":
            entries = [{"type": "file", "path": p, "size": len(b), "oid": "0" * 40} for p, b in files.items()]
            return self.answer_json(entries)
        if what != "resolve":
            return self.answer_json({"id": name, "modelId": name, "sha": COMMIT, "siblings": []})
        return self.send_file(file, files[file], head)

    def send_file(self, file: str, body: bytes, head: bool) -> None:
        asked = self.headers.get("Range")
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if head:
            return
        self.server.fetched.append((file, asked))
        if file in self.server.hold:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.server.holding.set()
            threading.Event().wait(30)
        elif file in self.server.drop_once:
            self.server.drop_once.remove(file)
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(body[start:])


@contextlib.contextmanager
def running(server: StandIn) -> Iterator[StandIn]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def hub() -> Iterator[StandIn]:
    bare = {name: FILES[name] for name in ("config.json", "pytorch_model.bin")}
    with running(StandIn({"org/enc": FILES, "org/pickled": bare, "org/gated": FILES}, gated=("org/gated",))) as server:
        yield server


def environment(url: str, home: Path, **more: str) -> dict[str, str]:
    dropped = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN")
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**kept, "HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", **more}


def start(url: str, home: Path, *words: str, before: str = "", **more: str) -> subprocess.Popen[str]:
    code = f"{before}\nfrom metagene_classifier.cli.main import main\nmain(['download', *{list(words)!r}])"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment(url, home, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def download(url: str, home: Path, *words: str, before: str = "", **more: str) -> tuple[int, str, str]:
    process = start(url, home, *words, before=before, **more)
    output, messages = process.communicate(timeout=60)
    return process.returncode, output, messages


def one_line(messages: str) -> str:
    """The one line of the error; progress and library noise would be more."""
    assert "Traceback" not in messages
    lines = [line for line in messages.splitlines() if line.startswith("mgc: error:")]
    assert len(lines) == 1, messages
    return lines[0]


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


WANTED = {"config.json", "model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"}


def test_fetches_configuration_and_safetensors_and_prints_the_folder(hub: StandIn, tmp_path: Path) -> None:
    code, output, messages = download(hub.url, tmp_path, "org/enc")
    assert code == 0, messages
    folder = Path(output.strip())
    assert folder.is_relative_to(tmp_path / "hub")
    assert names(folder) == WANTED
    assert (folder / "model-2.safetensors").read_bytes() == FILES["model-2.safetensors"]
    assert {file for file, _ in hub.fetched} == WANTED


def test_python_files_come_only_when_asked_for(hub: StandIn, tmp_path: Path) -> None:
    code, output, messages = download(hub.url, tmp_path, "org/enc", "--trust-remote-code")
    assert code == 0, messages
    assert names(Path(output.strip())) == WANTED | {"modeling.py"}


def test_fetches_into_another_cache_and_says_how_to_find_it(hub: StandIn, tmp_path: Path) -> None:
    code, output, messages = download(hub.url, tmp_path / "home", "org/enc", "--cache-dir", str(tmp_path / "other"))
    assert code == 0
    assert Path(output.strip()).is_relative_to(tmp_path / "other")
    assert f"HF_HUB_CACHE={tmp_path / 'other'}" in messages


def test_a_disk_that_is_too_small_is_refused_before_anything_is_fetched(hub: StandIn, tmp_path: Path) -> None:
    small = "import shutil, types; shutil.disk_usage = lambda path: types.SimpleNamespace(free=600_000)"
    code, output, messages = download(hub.url, tmp_path, "org/enc", before=small)
    assert code == 1
    assert output == ""
    assert hub.fetched == []
    line = one_line(messages)
    assert "org/enc needs 0.00 GiB more" in line
    assert "HF_HOME" in line


def test_what_is_in_the_cache_needs_no_room_on_the_disk(hub: StandIn, tmp_path: Path) -> None:
    first = download(hub.url, tmp_path, "org/enc")
    full = "import shutil, types; shutil.disk_usage = lambda path: types.SimpleNamespace(free=0)"
    again = download(hub.url, tmp_path, "org/enc", before=full)
    assert again[0] == 0, again[2]
    assert again[1] == first[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["org/nothing"], "no such repository"),
        (["org/enc", "--revision", "v9"], "no revision 'v9'"),
        (["org/gated"], "is gated: accept its terms"),
        (["org/pickled"], "no weights in safetensors"),
        (["./nowhere"], "no such folder"),
        (["what is this"], "neither a folder nor a name that the hub allows"),
        (["builtin:metagene1"], "did you mean 'builtin:metagene-1'?"),
    ],
)
def test_what_cannot_be_fetched_is_one_clear_line(hub: StandIn, tmp_path: Path, words: list[str], said: str) -> None:
    code, output, messages = download(hub.url, tmp_path, *words)
    assert code == 1
    assert output == ""
    assert said in one_line(messages)
    assert not any(file.endswith(("safetensors", "bin")) for file, _ in hub.fetched)


def test_offline_prints_the_cached_folder_and_refuses_what_is_not_there(hub: StandIn, tmp_path: Path) -> None:
    online = download(hub.url, tmp_path, "org/enc")
    fetched = len(hub.fetched)
    offline = download(hub.url, tmp_path, "org/enc", HF_HUB_OFFLINE="1")
    assert offline[0] == 0, offline[2]
    assert offline[1] == online[1]
    assert len(hub.fetched) == fetched
    code, _, messages = download(hub.url, tmp_path / "empty", "org/enc", HF_HUB_OFFLINE="1")
    assert code == 1
    assert "run 'mgc download org/enc' where there is network" in one_line(messages)


def test_without_network_the_cache_still_answers(hub: StandIn, tmp_path: Path) -> None:
    online = download(hub.url, tmp_path, "org/enc")
    nowhere = "http://127.0.0.1:9"
    again = download(nowhere, tmp_path, "org/enc")
    assert again[0] == 0, again[2]
    assert again[1] == online[1]
    code, _, messages = download(nowhere, tmp_path / "empty", "org/enc")
    assert code == 1
    assert f"cannot fetch org/enc from {nowhere}" in one_line(messages)


def test_a_broken_connection_is_taken_up_where_it_broke(hub: StandIn, tmp_path: Path) -> None:
    hub.drop_once.add("model-2.safetensors")
    small_chunks = "from huggingface_hub import constants; constants.DOWNLOAD_CHUNK_SIZE = 10_000"
    code, output, messages = download(hub.url, tmp_path, "org/enc", before=small_chunks)
    assert code == 0, messages
    ranges = [asked for file, asked in hub.fetched if file == "model-2.safetensors"]
    assert ranges == [None, "bytes=200000-"]
    assert (Path(output.strip()) / "model-2.safetensors").read_bytes() == FILES["model-2.safetensors"]


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_after_an_interruption_whole_files_are_not_fetched_again(hub: StandIn, tmp_path: Path) -> None:
    hub.hold.add("model-2.safetensors")
    # A test run in a shell's background inherits SIGINT ignored; the command here is one in the foreground.
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    process = start(hub.url, tmp_path, "org/enc", before=listening)
    assert hub.holding.wait(30)
    process.send_signal(signal.SIGINT)
    output, messages = process.communicate(timeout=30)
    assert process.returncode == 130
    assert output == ""
    assert "the same command goes on" in messages
    assert not list(tmp_path.rglob("*.incomplete"))
    hub.hold.clear()
    hub.fetched.clear()
    code, output, messages = download(hub.url, tmp_path, "org/enc")
    assert code == 0, messages
    assert {file for file, _ in hub.fetched} == {"model-2.safetensors"}
    assert names(Path(output.strip())) == WANTED
