"""Who may talk to the server, how much they may send, and what every answer says."""

import asyncio
import json

import pytest
from tests.serving.conftest import fasta

from metagene_classifier.serving.guard import HEADERS

READS = {"reads": ("x", fasta(1))}
OURS = {"origin": "http://localhost:8000"}


@pytest.mark.parametrize(
    "host", ["localhost:8000", "LOCALHOST", "127.0.0.1:8000", "[::1]:8000", "192.168.0.7:80", "mgc.example:8000"]
)
def test_addresses_and_names_that_were_allowed_are_served(served, host):
    with served(works=False, hosts=("mgc.example",)) as here:
        assert here.client.get("/api/model", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "127.0.0.1@evil",
        "[",
        "a/b",
    ],
)
def test_a_name_that_was_pointed_here_is_refused(served, host):
    with served(works=False, hosts=("mgc.example",)) as here:
        answer = here.client.get("/api/model", headers={"host": host})
        assert answer.status_code == 421
        assert "--allow-host" in answer.json()["error"]
        assert here.client.post("/api/calls", files=READS, headers={"host": host}).status_code == 421


@pytest.mark.parametrize("headers", [{}, OURS, OURS | {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}])
def test_our_page_and_programs_may_send_reads(served, headers):
    with served() as here:
        assert here.client.post("/api/calls", files=READS, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:8001"},
        {"origin": "http://localhost"},
        {"sec-fetch-site": "cross-site"},
        OURS | {"sec-fetch-site": "same-site"},
    ],
)
def test_pages_of_others_may_not_send_or_forget_reads(served, headers):
    with served() as here:
        key = here.call(fasta(1)).json()["id"]
        refused = here.client.post("/api/calls", files=READS, headers=headers)
        assert (refused.status_code, refused.json()) == (
            403,
            {"error": "a page of another site may not send reads here"},
        )
        assert here.client.delete(f"/api/results/{key}", headers=headers).status_code == 403
        assert here.client.get(f"/api/results/{key}").status_code == 200


def test_no_answer_invites_other_sites(served):
    with served(works=False) as here:
        for method in ("GET", "OPTIONS", "POST"):
            answer = here.client.request(method, "/api/model", headers={"origin": "http://evil.example"})
            assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/api/model", "/nothing", "/openapi.json", "/healthz"])
def test_every_answer_has_the_headers(served, path):
    with served() as here:
        found = here.client.get(path).headers
        assert {name: found[name] for name in HEADERS} == HEADERS
        policy = found["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert found["x-content-type-options"] == "nosniff"


def test_refusals_and_bugs_have_the_headers_too(served):
    def run(batch):
        raise RuntimeError("secret /path")

    with served(run=run) as here:
        for answer in (here.call(fasta(1)), here.client.get("/", headers={"host": "evil.example"})):
            assert answer.headers["x-frame-options"] == "DENY"
            assert list(answer.json()) == ["error"]


class Connection:
    """A client that sends its body piece by piece."""

    def __init__(self, pieces, headers=(), path="/api/calls", method="POST", pause=0.0, leaves=False):
        self.pieces, self.leaves, self.pause = list(pieces), leaves, pause
        self.taken = 0
        self.sent = []
        own = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=xx"), *headers]
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": own,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }

    async def receive(self):
        if self.pause:
            await asyncio.sleep(self.pause)
        if self.taken < len(self.pieces):
            self.taken += 1
            more = self.taken < len(self.pieces)
            return {"type": "http.request", "body": self.pieces[self.taken - 1], "more_body": more}
        if not self.leaves:
            await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)

    def talk(self, app):
        asyncio.run(app(self.scope, self.receive, self.send))
        start = self.sent[0]
        return start["status"], json.loads(b"".join(one.get("body", b"") for one in self.sent[1:]))


HEAD = b'--xx\r\nContent-Disposition: form-data; name="reads"; filename="x"\r\n\r\n'
TAIL = b"\r\n--xx--\r\n"


def test_a_body_that_says_it_is_too_large_is_not_read(served):
    with served(works=False, max_bytes=1000) as here:
        client = Connection([b"x" * 100] * 20, [(b"content-length", b"2000")])
        status, answer = client.talk(here.app)
        assert (status, client.taken) == (413, 0)
        assert answer == {"error": "more than 1,000 bytes (--max-bytes): send fewer reads at once"}


def test_a_body_that_does_not_say_how_large_it_is_is_read_to_the_limit(served):
    with served(works=False, max_bytes=1000) as here:
        client = Connection([HEAD, *[b"A" * 100] * 200])
        assert client.talk(here.app)[0] == 413
        assert client.taken <= 11


def test_a_body_that_does_not_come_is_not_waited_for(served):
    with served(works=False, timeout_s=0.3) as here:
        client = Connection([HEAD, *[b"A"] * 200], pause=0.1)
        status, answer = client.talk(here.app)
        assert (status, answer["error"]) == (408, "the reads did not come in time")
        assert client.taken < 10


def test_a_client_that_leaves_is_taken_out_of_the_queue(served):
    with served(works=False, timeout_s=20) as here:
        client = Connection([HEAD + fasta(1).encode() + TAIL], leaves=True)
        client.talk(here.app)
        assert here.worker.waiting == 0


def test_two_different_hosts_are_refused(served):
    with served(works=False) as here:
        client = Connection([b""], [(b"host", b"evil.example")], path="/api/model", method="GET")
        assert client.talk(here.app)[0] == 400


def test_only_so_many_bodies_come_in_at_once(served):
    with served(works=False, max_queued=1, timeout_s=1) as here:

        async def all_at_once():
            clients = [Connection([HEAD], pause=0.3, headers=[(b"x", b"y")]) for _ in range(8)]
            for client in clients:
                client.pieces = [HEAD, *[b"A"] * 20]
            await asyncio.gather(*(here.app(one.scope, one.receive, one.send) for one in clients))
            return [client.sent[0] for client in clients]

        starts = asyncio.run(all_at_once())
        assert [one["status"] for one in starts] == [408] * 5 + [503] * 3
        assert (b"retry-after", b"5") in starts[-1]["headers"]
        assert here.call(fasta(1)).status_code == 504  # the places are free again; nobody works here


def test_web_sockets_are_closed(served):
    with served(works=False) as here:
        sent = []

        async def send(message):
            sent.append(message)

        asyncio.run(here.app({"type": "websocket", "headers": []}, None, send))
        assert sent == [{"type": "websocket.close", "code": 1008}]
