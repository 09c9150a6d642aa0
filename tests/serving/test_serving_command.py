"""``mgc serve`` from its start to Ctrl-C."""

import csv
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest
import uvicorn
from tests.serving.conftest import TAXONOMY, fasta

from metagene_classifier.cli.main import main
from metagene_classifier.serving.running import address_of, bound_socket, is_loopback


def mgc(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code, capsys.readouterr().err


def test_a_server_calls_as_predict_does_and_ends_with_an_interrupt(model_folder, tmp_path, capsys):
    reads = tmp_path / "reads.fa"
    reads.write_text(fasta(30) + ">short\nAC\n")
    options = ["--ckpt", model_folder, "--device", "cpu", "--taxonomy", TAXONOMY, "--confidence", "0.54"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "metagene_classifier", "serve", "--port", "0", *map(str, options)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path) as server:
        guard = threading.Timer(60, server.kill)
        guard.start()
        try:
            lines = []
            while not (
                found := re.search(r"calling reads at (http://127\.0\.0\.1:\d+)/ \(Ctrl-C ends it\)", "".join(lines))
            ):
                line = server.stderr.readline()
                assert line, "".join(lines)
                lines.append(line)
            with open(reads, "rb") as sent:
                answer = httpx.post(f"{found[1]}/api/calls", files={"reads": sent}, timeout=30).json()
            taken = mgc(capsys, "serve", *options, "--port", found[1].rpartition(":")[2])
            server.send_signal(signal.SIGINT)
            rest = server.stderr.read()
            assert server.wait(30) == 0
        finally:
            guard.cancel()
            server.kill()
    assert rest == "stopped\n"
    assert "Traceback" not in "".join(lines)
    assert taken == (2, f"mgc: error: port {found[1].rpartition(':')[2]} of 127.0.0.1 is in use: give another --port, "
                     "or 0 for any free one\n")  # fmt: skip

    calls = tmp_path / "calls.csv"
    assert mgc(capsys, "predict", "--input", reads, "--output", calls, *options)[0] == 0
    with open(calls) as written:
        rows = list(csv.DictReader(written))
    assert len(rows) == len(answer["calls"]) == 31
    for row, call in zip(rows, answer["calls"], strict=True):
        assert float(row.pop("confidence")) == pytest.approx(call.pop("confidence"), abs=1e-5)
        assert row == {key: "" if value is None else str(value) for key, value in call.items()}
    assert {row["reason"] for row in rows} == {"", "not sure enough", "too short"}


def test_the_lines_of_a_start(model_folder, monkeypatch, capsys):
    """The server itself does not run here."""
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: [one.close() for one in sockets])
    options = ["serve", "--ckpt", model_folder, "--device", "cpu", "--port", "0"]
    code, told = mgc(capsys, *options)
    assert code == 0
    assert "warning" not in told
    assert re.search(r"^calling reads at http://127\.0\.0\.1:\d+/ \(Ctrl-C ends it\)\nstopped\n$", told, re.MULTILINE)

    code, told = mgc(capsys, *options, "--host", "0.0.0.0")
    assert code == 0
    assert re.search(
        r"^warning: listening on 0\.0\.0\.0: whoever reaches port \d+ of this machine can call reads", told, re.M
    )


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "multipart"])
def test_what_is_not_installed_is_one_line(monkeypatch, capsys, missing):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == missing else real(name, *more))
    assert mgc(capsys, "serve", "--ckpt", "x") == (
        2,
        "mgc: error: mgc serve needs the extra serve: pip install 'metagene-classifier[serve]'\n",
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--ckpt", "nowhere", "--port", "0"], "nowhere: no such folder"),
        (["--ckpt", "x", "--host", "no.such.host.invalid"], "--host no.such.host.invalid: no such address"),
        (["--ckpt", "x", "--host", "192.0.2.1"], "--host 192.0.2.1: "),
        (
            ["--ckpt", "x", "--port", "0", "--closed-set", "--confidence", "0.5"],
            "--confidence and --closed-set each say",
        ),
        (["--ckpt", "x", "--port", "70000"], "Invalid value for '--port'"),
        (["--ckpt", "x", "--timeout", "0"], "Invalid value for '--timeout'"),
    ],
)
def test_what_cannot_start_is_one_line(capsys, words, line):
    code, told = mgc(capsys, "serve", *words)
    assert code in (1, 2)
    assert line in told
    assert len(told.splitlines()) == 1


def test_which_addresses_are_of_this_machine_alone():
    hosts = {"127.0.0.1": True, "0.0.0.0": False, "localhost": True}
    if socket.has_ipv6:
        hosts |= {"::1": True, "::": False}
    for host, alone in hosts.items():
        try:
            with bound_socket(host, 0) as bound:
                assert is_loopback(bound) is alone
                port = bound.getsockname()[1]
                assert address_of(bound) in (
                    f"http://127.0.0.1:{port}/",
                    f"http://{host}:{port}/",
                    f"http://[{host}]:{port}/",
                )
        except OSError:
            assert ":" in host  # a machine without IPv6
