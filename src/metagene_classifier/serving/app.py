"""The application: the page, and the API that it and other programs use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, File, Form, HTTPException, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException

from metagene_classifier import __version__
from metagene_classifier.calling.confusion import Confusion
from metagene_classifier.errors import MgcError
from metagene_classifier.model.description import CallingFacts
from metagene_classifier.prediction.calling import Caller, CallOptions, check_cut_offs
from metagene_classifier.prediction.formats.sunburst import SUNBURST_SCRIPT, SUNBURST_STYLE
from metagene_classifier.serving.answers import (
    CallsAnswer,
    ErrorAnswer,
    FormatAnswer,
    HealthAnswer,
    LimitsAnswer,
    ModelAnswer,
    calls_answer,
)
from metagene_classifier.serving.guard import Guard
from metagene_classifier.serving.limits import Limits, RefusedError
from metagene_classifier.serving.received import receive
from metagene_classifier.serving.results import ResultStore, downloads
from metagene_classifier.serving.worker import Called, Job, ModelWorker

__all__ = ["ServedModel", "make_app"]

_STATIC = Path(__file__).with_name("static")
_LOOK_EVERY_S = 0.2
"""How soon it is noticed that a client has left, or that the server stops."""
_FILES_AT_ONCE = 2
_FORGET_EVERY_S = 30.0

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class ServedModel:
    """What is known of the model beside its scores.

    Attributes:
        name: of its folder.
        encoder: its name.
        strand: which strands are scored.
        confusion: for profiles, where the model has one.
        default_cut_offs: whether the server refuses reads as they were refused when its confusions were counted.
        screening: what the model never calls.
        min_tokens: instead of the model's own number, whatever a request says.
    """

    name: str
    encoder: str
    strand: str
    confusion: Confusion | None = None
    default_cut_offs: bool = True
    screening: CallingFacts = field(default_factory=CallingFacts)
    min_tokens: int | None = None


def make_app(
    worker: ModelWorker,
    caller: Caller,
    model: ServedModel,
    limits: Limits,
    *,
    hosts: tuple[str, ...] = (),
    stopping: Callable[[], bool] = lambda: False,
) -> Guard:
    """The ASGI application.

    Args:
        worker: calls the reads; started and stopped by whoever made it.
        caller: how reads are called unless a request says otherwise.
        model: for people.
        limits: of requests.
        hosts: names of this server beside ``localhost`` and addresses.
        stopping: whether the server is about to end, and waiting requests should be sent away.
    """
    results = ResultStore(limits.max_results, limits.max_kept_bytes, limits.keep_s)

    @asynccontextmanager
    async def forgetting(app: FastAPI) -> AsyncIterator[None]:
        """Nobody may ask for a result for a long time; it goes all the same when its time is over."""
        task = asyncio.create_task(_forget_again_and_again(results, min(limits.keep_s, _FORGET_EVERY_S)))
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    app = FastAPI(
        lifespan=forgetting,
        title="METAGENE Classifier",
        version=__version__,
        description='Calls of sequencing reads. Errors are JSON with one line: `{"error": "…"}`.',
        docs_url=None,  # its page loads scripts from another host
        redoc_url=None,
    )
    offered = downloads(caller.tree)
    files_at_once = asyncio.Semaphore(_FILES_AT_ONCE)
    errors: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorAnswer} for status in (403, 408, 413, 415, 421, 422, 503, 504)
    }
    missing: dict[int | str, dict[str, Any]] = {status: {"model": ErrorAnswer} for status in (404, 421, 422)}
    _add_errors(app)
    _add_page(app)

    @app.get("/healthz", response_model=HealthAnswer, responses={503: {"model": HealthAnswer}}, tags=["server"])
    async def healthz() -> Response:
        """Whether reads can be called."""
        ok = worker.works and not stopping()
        answer = HealthAnswer(status="ok" if ok else "stopping", waiting=worker.waiting)
        return JSONResponse(answer.model_dump(), 200 if ok else 503)

    @app.get("/api/model", tags=["server"])
    async def about() -> ModelAnswer:
        """The model, its defaults, the limits, and the formats that results can be had in."""
        options = caller.options
        return ModelAnswer(
            name=model.name,
            encoder=model.encoder,
            program=f"metagene-classifier {__version__}",
            classes=len(caller.labels),
            has_taxonomy=caller.tree.has_taxonomy,
            calibrated=caller.calibrator.calibrated,
            threshold=options.threshold,
            closed_set=options.closed_set,
            strand=model.strand,
            limits=LimitsAnswer(
                max_bytes=limits.max_bytes,
                max_reads=limits.max_reads,
                max_read_bp=limits.max_read_bp,
                timeout_s=limits.timeout_s,
                keep_s=limits.keep_s,
            ),
            formats=[FormatAnswer.of(one) for one in offered.values()],
        )

    @app.post("/api/calls", response_model=CallsAnswer, responses=errors, tags=["calls"])
    async def call(
        request: Request,
        reads: Annotated[UploadFile, File(description="FASTA or FASTQ, plain or gzip; told by its content.")],
        mates: Annotated[UploadFile | None, File(description="The mates of `reads`, in the same order.")] = None,
        interleaved: Annotated[bool, Form(description="Mates follow each other in `reads`.")] = False,
        confidence: Annotated[
            float | None, Form(ge=0, le=1, description="Calibrated probability that a call must reach.")
        ] = None,
        target_precision: Annotated[
            float | None, Form(gt=0, le=1, description="Instead: the precision it gave on the validation reads.")
        ] = None,
        closed_set: Annotated[bool, Form(description="Refuse nothing: the likeliest class of each read.")] = False,
    ) -> Response:
        """Call reads. The answer comes when all are called; a client that leaves is forgotten."""
        deadline = time.monotonic() + limits.timeout_s
        asked = _caller_as_asked(caller, model, confidence, target_precision, closed_set)
        received = await run_in_threadpool(
            receive, reads.file, mates.file if mates else None, interleaved=interleaved, limits=limits
        )
        job = Job(received.reads, asked.of_pairs(received.paired), deadline)
        worker.submit(job)
        called = await _answered(job, request, stopping)
        result = results.add(
            called,
            labels=caller.labels,
            tree=caller.tree,
            paired=received.paired,
            threshold=None if asked.options.closed_set else asked.options.threshold,
            confusion=model.confusion,
            default_cut_offs=model.default_cut_offs and asked is caller,
        )
        return await _json(lambda: calls_answer(result, limits.keep_s).model_dump_json())

    @app.get("/api/results/{key}", response_model=CallsAnswer, responses=missing, tags=["calls"])
    async def result_again(key: str) -> Response:
        """A result that was had before."""
        result = _found(results.get(key))
        left = max(0.0, result.ends - results.clock())
        return await _json(lambda: calls_answer(result, left).model_dump_json())

    @app.delete("/api/results/{key}", status_code=204, responses=missing, tags=["calls"])
    async def forget(key: str) -> Response:
        """Forget a result and its reads."""
        if not results.remove(key):
            raise HTTPException(404, _NO_RESULT)
        return Response(status_code=204)

    @app.get("/api/results/{key}/files/{name}", response_class=Response, responses=missing, tags=["calls"])
    async def file(key: str, name: str) -> Response:
        """A result as a file; `/api/model` names the formats."""
        result = _found(results.get(key))
        download = offered.get(name)
        if download is None:
            raise HTTPException(404, f"no such format: there are {', '.join(offered)}")
        if download.lacking:
            raise HTTPException(422, download.lacking)
        async with files_at_once:
            content = await run_in_threadpool(result.file, download)
        disposition = f'attachment; filename="{result.file_name(download)}"'
        return Response(content, media_type=download.media_type, headers={"content-disposition": disposition})

    return Guard(app, limits, hosts)


_NO_RESULT = "no such result: it was never here, or is forgotten by now; send the reads again"


def _found(result: Answer | None) -> Answer:
    if result is None:
        raise HTTPException(404, _NO_RESULT)
    return result


async def _json(make: Callable[[], str]) -> Response:
    """JSON that takes a while to make, without keeping others from being answered."""
    return Response(await run_in_threadpool(make), media_type="application/json")


async def _forget_again_and_again(results: ResultStore, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        results.forget_old()


def _caller_as_asked(
    caller: Caller, model: ServedModel, confidence: float | None, target_precision: float | None, closed_set: bool
) -> Caller:
    """The server's caller, with what a request wants otherwise; as :func:`caller_for` makes one of the same options."""
    check_cut_offs(confidence, target_precision, closed_set)
    options = caller.options
    if closed_set:
        options = CallOptions(closed_set=True, refuse=False, min_tokens=model.min_tokens or 0, hits=options.hits)
    elif confidence is not None or target_precision is not None:
        threshold = caller.calibrator.threshold_for(target_precision) if target_precision is not None else confidence
        assert threshold is not None
        own = model.screening
        options = replace(
            options,
            threshold=threshold,
            closed_set=False,
            refuse=True,
            min_tokens=own.min_tokens if model.min_tokens is None else model.min_tokens,
            min_complexity=own.min_complexity,
        )
    if options == caller.options:
        return caller
    return Caller(caller.labels, caller.tree, caller.calibrator, options)


async def _answered(job: Job, request: Request, stopping: Callable[[], bool]) -> Called:
    """The calls of a job, unless time runs out or nobody waits for them any more.

    Raises:
        RefusedError: either of these.
    """
    future = asyncio.wrap_future(job.future)
    try:
        while True:
            done, _ = await asyncio.wait([future], timeout=_LOOK_EVERY_S)
            if done:
                return future.result()
            if time.monotonic() >= job.deadline:
                raise RefusedError(504, "the reads could not be called in time (--timeout): send fewer, or later")
            if stopping():
                raise RefusedError(503, "the server is stopping")
            if await request.is_disconnected():
                raise RefusedError(499, "the client has left")
    finally:
        job.future.cancel()


def _add_page(app: FastAPI) -> None:
    """The page's files, read once; there are no others."""
    files = {
        "/": ("index.html", "text/html; charset=utf-8"),
        "/static/page.css": ("page.css", "text/css; charset=utf-8"),
        "/static/page.js": ("page.js", "text/javascript; charset=utf-8"),
        "/static/table.js": ("table.js", "text/javascript; charset=utf-8"),
        "/static/icon.svg": ("icon.svg", "image/svg+xml"),
    }
    contents = {address: ((_STATIC / name).read_bytes(), kind) for address, (name, kind) in files.items()}
    contents["/static/sunburst.js"] = (SUNBURST_SCRIPT.encode(), "text/javascript; charset=utf-8")
    contents["/static/sunburst.css"] = (SUNBURST_STYLE.encode(), "text/css; charset=utf-8")
    for address, (content, kind) in contents.items():
        app.add_api_route(address, _static(content, kind), include_in_schema=False)


def _static(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        return Response(content, media_type=kind)

    return answer


def _add_errors(app: FastAPI) -> None:
    """Every error as JSON with one line."""

    def line(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": " ".join(text.split())}, status, headers=headers)

    @app.exception_handler(StarletteHTTPException)
    async def of_http(request: Request, error: StarletteHTTPException) -> Response:
        text = "there is nothing at this address" if error.detail == "Not Found" else str(error.detail)
        return line(error.status_code, text, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def of_form(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return line(422, f"{where}: {first['msg']}" if where else first["msg"])

    @app.exception_handler(RefusedError)
    async def of_refusal(request: Request, error: RefusedError) -> Response:
        retry = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
        return line(error.status, str(error), retry)

    @app.exception_handler(MgcError)
    async def of_user(request: Request, error: MgcError) -> Response:
        return line(422, str(error))

    @app.exception_handler(Exception)
    async def of_bug(request: Request, error: Exception) -> Response:
        return line(500, "something went wrong in the server: its own output says what")
