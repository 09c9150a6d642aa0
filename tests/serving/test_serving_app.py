"""The API: reads in, calls out, in every format; every error one line."""

import csv
import gzip
import io
import threading
from dataclasses import replace

import pytest
from tests.serving.conftest import fasta, sequences

from metagene_classifier.calling.calibrated import Calibrator
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.model.calibration import CalibrationFacts, CutOff, ReliabilityFacts, TemperatureFacts
from metagene_classifier.prediction.calling import Caller
from metagene_classifier.prediction.formats.csv_calls import CallsCsv
from metagene_classifier.prediction.formats.registry import FORMATS
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.reads.read import Read
from metagene_classifier.serving.worker import Job


def predicted(opened_model, texts, **options):
    """The rows that ``mgc predict`` writes."""
    reads = [Read(f"read{number} of 0", text) for number, text in enumerate(texts)]
    caller = opened_model.calls_as(**options)
    blocks = opened_model.scorer.stream(reads, StreamReport())
    text = CallsCsv(None, caller.tree)
    return list(
        csv.DictReader(io.StringIO(text.header() + text.rows(call for b in blocks for call in caller.calls(b))))
    )


def as_row(call):
    texts = {key: "" if value is None else str(value) for key, value in call.items()}
    return texts | {"confidence": f"{call['confidence']:.6f}"}


@pytest.mark.parametrize("confidence", [None, 0.45, 0.9])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_calls_are_those_of_mgc_predict(served, opened_model, confidence, compress):
    texts = [*sequences(40), "", "NNN", "acgu" * 100, "ACG"]
    body = "".join(f">read{number} of 0\n{text}\n" for number, text in enumerate(texts)).encode()
    form = {} if confidence is None else {"confidence": str(confidence)}
    with served() as here:
        answer = here.call(compress(body), **form).json()
    expected = predicted(opened_model, texts, confidence=confidence)
    for call, row in zip(answer["calls"], expected, strict=True):
        found = as_row(call)
        assert abs(float(found.pop("confidence")) - float(row.pop("confidence"))) <= 1e-5
        assert found == row
    assert (answer["reads"], answer["threshold"]) == (44, confidence or 0.0)
    assert answer["classified"] == sum(not row["reason"] for row in expected)
    assert sum(answer["reasons"].values()) == 44 - answer["classified"]
    assert "reads without a base" in " ".join(answer["noticed"])


def test_pairs_get_one_call(served):
    one, two = fasta(3, seed=1).replace(" of", "/1 of"), fasta(3, seed=2).replace(" of", "/2 of")
    with served() as here:
        apart = here.call(one, mates=two).json()
        together = "".join(f">{a}>{b}" for a, b in zip(one.split(">")[1:], two.split(">")[1:], strict=True))
        interleaved = here.call(together, interleaved="true").json()
    assert apart["paired"] and [call["read_id"] for call in apart["calls"]] == ["read0", "read1", "read2"]
    assert [call["length_bp"] for call in apart["calls"]] == [120] * 3
    assert interleaved["calls"] == apart["calls"]


def test_a_closed_set_refuses_nothing(served):
    with served() as here:
        text = fasta(20)
        assert here.call(text, confidence="1").json()["classified"] == 0
        closed = here.call(text, closed_set="true").json()
        assert (closed["classified"], closed["threshold"]) == (20, None)


@pytest.fixture
def calibrated(opened_model):
    """A caller whose model reached a precision of 0.9 at 0.4 and of 1 at 0.99; 0.5 is its own threshold."""
    diagram = ReliabilityFacts(edges=(0, 1), reads=(1,), confidence=(0.5,), accuracy=(0.5,), ece=0.0)
    table = tuple(
        CutOff(threshold=threshold, precision=precision, sensitivity=0.5, called=9, f1=0.5)
        for threshold, precision in ((0.0, 0.5), (0.4, 0.9), (0.99, 1.0))
    )
    temperature = TemperatureFacts(single=1.0, pairs=1.0, pairs_measured=True, reads=9)
    facts = CalibrationFacts(temperature=temperature, before=diagram, after=diagram, threshold=0.5, table=table)
    own = opened_model.caller
    return Caller(own.labels, own.tree, Calibrator(facts), replace(own.options, threshold=0.5))


@pytest.mark.parametrize(
    ("form", "threshold"),
    [
        ({}, 0.5),
        ({"target_precision": "0.9"}, 0.4),
        ({"target_precision": "0.95"}, 0.99),
        ({"confidence": "0"}, 0.0),
        ({"closed_set": "true"}, None),
    ],
)
def test_the_threshold_is_the_models_own_or_what_a_request_asks(served, calibrated, form, threshold):
    with served(caller=calibrated) as here:
        about = here.client.get("/api/model").json()
        assert (about["calibrated"], about["threshold"]) == (True, 0.5)
        answer = here.call(fasta(10), **form).json()
        assert answer["threshold"] == threshold
        for call in answer["calls"]:
            assert bool(call["reason"]) == (call["confidence"] < (threshold or 0))


def test_what_a_request_asks_stays_with_it(served):
    with served() as here:
        text = fasta(10)
        before = here.call(text).json()["calls"]
        here.call(text, confidence="1")
        assert here.call(text).json()["calls"] == before


@pytest.mark.parametrize("name", [*FORMATS, "classified-reads", "unclassified-reads"])
def test_every_format_can_be_had(served, name):
    with served() as here:
        key = here.call(fasta(5)).json()["id"]
        offered = {one["name"]: one for one in here.client.get("/api/model").json()["formats"]}
        assert offered[name]["lacking"] == ""
        answer = here.client.get(f"/api/results/{key}/files/{name}")
        assert answer.status_code == 200
        ending = FORMATS[name].ending if name in FORMATS else f"{name}.fasta"
        disposition = answer.headers["content-disposition"]
        assert disposition.startswith("attachment; filename=") and disposition.endswith(f'{ending}"')
        assert answer.headers["x-content-type-options"] == "nosniff"
        if name == "csv":
            assert [row["read_id"] for row in csv.DictReader(io.StringIO(answer.text))] == [
                f"read{n}" for n in range(5)
            ]
        if name == "kraken":
            assert [line.split("\t")[:2] for line in answer.text.splitlines()] == [["C", f"read{n}"] for n in range(5)]
        if name == "classified-reads":
            assert answer.text.count(">") == 5 and "kraken:taxid|" in answer.text


def test_formats_about_ranks_are_refused_with_the_reason_where_there_are_none(served, opened_model):
    own = opened_model.caller
    flat = Caller(own.labels, ClassTree.of(own.labels, None), own.calibrator, own.options)
    with served(caller=flat) as here:
        answer = here.call(fasta(2)).json()
        assert {call["lineage"] for call in answer["calls"]} == {""}
        refused = here.client.get(f"/api/results/{answer['id']}/files/cami-profile")
        assert refused.status_code == 422
        assert "--taxonomy" in refused.json()["error"]
        assert here.client.get(f"/api/results/{answer['id']}/files/kraken").status_code == 200


def test_a_result_is_there_until_it_is_forgotten(served):
    with served() as here:
        answer = here.call(fasta(2)).json()
        address = f"/api/results/{answer['id']}"
        again = here.client.get(address).json()
        assert {**again, "keep_s": None} == {**answer, "keep_s": None}
        assert again["keep_s"] <= answer["keep_s"]
        assert here.client.delete(address).status_code == 204
        for gone in (here.client.get(address), here.client.get(f"{address}/files/csv"), here.client.delete(address)):
            assert gone.status_code == 404
            assert "forgotten" in gone.json()["error"]


def test_nothing_that_is_asked_for_is_a_path(served):
    with served(works=False) as here:
        for path in (
            "/static/../app.py",
            "/static/%2e%2e/app.py",
            "/api/results/..%2f..%2fetc/files/csv",
            "/etc/passwd",
        ):
            answer = here.client.get(path)
            assert answer.status_code == 404
            assert list(answer.json()) == ["error"]


def test_file_names_of_a_client_are_seen_nowhere(served):
    """Every request of these tests calls its file ../../etc/passwd."""
    with served() as here:
        answer = here.call(fasta(2))
        assert "passwd" not in answer.text
        for one in here.client.get("/api/model").json()["formats"]:
            file = here.client.get(f"/api/results/{answer.json()['id']}/files/{one['name']}")
            assert b"passwd" not in file.content and "passwd" not in str(file.headers)


@pytest.mark.parametrize(
    ("text", "form", "status", "line"),
    [
        ("ACGT", {}, 422, "reads: neither FASTA nor FASTQ"),
        (fasta(1), {"confidence": "2"}, 422, "confidence: Input should be less than or equal to 1"),
        (fasta(1), {"confidence": "x"}, 422, "confidence: "),
        (fasta(1), {"confidence": "nan"}, 422, "confidence: "),
        (fasta(1), {"confidence": "0.5", "closed_set": "true"}, 422, "--confidence and --closed-set each say"),
        (fasta(1), {"target_precision": "0.9"}, 422, "--target-precision needs a calibrated model"),
        (fasta(21), {}, 413, "more than 20 reads"),
        (fasta(1, 101), {}, 413, "read 1 has 101 bases and 100 are taken"),
        (fasta(3), {"interleaved": "true"}, 422, "record 3 ('read2') has no mate"),
    ],
)
def test_what_cannot_be_called_is_one_line(served, text, form, status, line):
    with served(works=False, max_reads=20, max_read_bp=100) as here:
        answer = here.call(text, **form)
        assert answer.status_code == status
        assert answer.json()["error"].startswith(line)
        assert "\n" not in answer.json()["error"]


def test_requests_that_are_none(served):
    with served(works=False) as here:
        post = here.client.post
        for answer in (
            post("/api/calls"),
            post("/api/calls", content=b"{", headers={"content-type": "application/json"}),
            post("/api/calls", content=b"x", headers={"content-type": "multipart/form-data"}),
            post("/api/calls", content=b"x", headers={"content-type": "multipart/form-data; boundary=y"}),
            post("/api/calls", data={"reads": "text and no file"}),
        ):
            assert answer.status_code in (400, 422)
            assert list(answer.json()) == ["error"]
        assert here.client.get("/api/calls").status_code == 405


def test_an_error_of_ours_is_one_line_and_never_where_it_happened(served, capsys):
    def run(batch):
        raise RuntimeError("secret /etc/place")

    with served(run=run) as here:
        answer = here.call(fasta(1))
        assert answer.status_code == 500
        assert answer.json() == {"error": "something went wrong in the server: its own output says what"}
    assert "secret" in capsys.readouterr().err


def test_a_full_queue_answers_when_to_come_again(served, opened_model):
    with served(works=False, max_queued=2) as here:
        for _ in range(2):
            here.worker.submit(Job([Read("a", "ACGT")], opened_model.caller, 1e12))
        answer = here.call(fasta(1))
        assert answer.status_code == 503
        assert 1 <= int(answer.headers["retry-after"]) <= 120
        assert "wait already" in answer.json()["error"]


def test_who_waits_too_long_is_told_so_and_dropped(served):
    with served(works=False, timeout_s=0.3) as here:
        answer = here.call(fasta(1))
        assert answer.status_code == 504
        assert "in time" in answer.json()["error"]
        assert here.worker.waiting == 0


def test_who_waits_when_the_server_stops_is_sent_away(served):
    stops = threading.Event()
    with served(works=False, stopping=stops.is_set) as here:
        threading.Timer(0.3, stops.set).start()
        answer = here.call(fasta(1))
        assert (answer.status_code, answer.json()["error"]) == (503, "the server is stopping")
        assert here.client.get("/healthz").status_code == 503


def test_health(served):
    with served() as here:
        assert here.client.get("/healthz").json() == {"status": "ok", "waiting": 0}
    assert here.client.get("/healthz").json()["status"] == "stopping"


def test_the_schema_documents_the_api_and_no_page_loads_a_script_from_elsewhere(served):
    with served(works=False) as here:
        schema = here.client.get("/openapi.json").json()
        assert set(schema["paths"]) == {
            "/healthz",
            "/api/model",
            "/api/calls",
            "/api/results/{key}",
            "/api/results/{key}/files/{name}",
        }
        answers = schema["paths"]["/api/calls"]["post"]["responses"]
        assert {"200", "413", "422", "503", "504"} <= set(answers)
        assert answers["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorAnswer")
        fields = schema["components"]["schemas"]["CallAnswer"]["properties"]
        assert list(fields) == ["read_id", "call", "taxid", "rank", "confidence", "length_bp", "reason", "lineage"]
        for path in ("/docs", "/redoc"):
            assert here.client.get(path).status_code == 404
        assert "//" not in here.client.get("/").text.replace("http://…", "")
