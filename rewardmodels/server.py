"""Rewards over HTTP: `mmalign serve` on one side, the reward `remote` (or any HTTP client) on the other.

    GET  /health    {"status": "ok"}, or 503 when a reward's thread is gone
    GET  /rewards   what is served: names, modalities, dimensions, scales, and the limits of a request
    POST /score     `rewardmodels.wire` says what is asked and answered

Samples of several requests are judged in one batch, but a group by itself where a reward compares
(`rewardmodels.desk`). What a request may hold, and what is held of all requests at once, is bounded
(`rewardmodels.reception`); sizes are checked before anything is decoded. A request takes its place once its body is in,
and connections that dawdle make way (`rewardmodels.door`), so that slow clients keep nobody out. A client that goes
away takes its job out of the queue. Errors are `{"error": sentence}`; an error of a reward's own code costs the sample
or group that it struck, and is a 500 where that is the whole request.

Legend: `B` samples.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import mmalign
from mmalign.types import Scores
from rewardmodels import reception, wire
from rewardmodels.asking import among
from rewardmodels.blobs import Blob, Unpacker
from rewardmodels.catalog import CATALOG
from rewardmodels.combine import needs_group
from rewardmodels.defects import defects
from rewardmodels.desk import Desk, Full
from rewardmodels.door import Door, Line
from rewardmodels.reception import Limits, Order, Refusal, Room

GONE = 499  # the client closed the connection; nobody reads this answer

log = logging.getLogger("mmalign.serve")


def build(desks: Mapping[str, Desk], *, limits: Limits | None = None, token: str | None = None) -> FastAPI:
    """The application: desks by the names they are asked for; with a `token` everything but /health needs it."""
    reception_desk = Reception(desks, limits or Limits(), token)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        reception_desk.close()

    app = FastAPI(
        title="mmalign rewards", version=mmalign.__version__, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.get("/health")(reception_desk.health)
    app.get("/rewards")(reception_desk.rewards)
    app.post("/score", openapi_extra={"requestBody": wire.request_body()})(reception_desk.score)

    @app.exception_handler(Refusal)
    async def refuse(_: Request, refusal: Refusal) -> JSONResponse:
        return JSONResponse({"error": refusal.message}, refusal.status, headers=refusal.headers)

    @app.exception_handler(HTTPException)
    async def unknown(_: Request, problem: HTTPException) -> JSONResponse:
        told = f"{problem.detail}: here are GET /health, GET /rewards, GET /openapi.json and POST /score"
        return JSONResponse({"error": told}, problem.status_code, headers=problem.headers)

    return app


class Reception:
    """Answers requests. Bodies are parsed and decoded in two threads, never in the one that listens."""

    def __init__(self, desks: Mapping[str, Desk], limits: Limits, token: str | None) -> None:
        if not desks:
            raise ValueError("nothing to serve: name a reward")
        self.desks, self.limits, self.token = desks, limits, token
        self.room = Room(limits)
        self.decoders = ThreadPoolExecutor(2, thread_name_prefix="decoding")

    def close(self) -> None:
        """The end of all desks."""
        for desk in self.desks.values():
            desk.close()
        self.decoders.shutdown(wait=False, cancel_futures=True)

    async def health(self) -> JSONResponse:
        """For load balancers: open to everybody, and says nothing else."""
        fine = all(desk.alive for desk in self.desks.values())
        return JSONResponse({"status": "ok" if fine else "failing"}, 200 if fine else 503)

    async def rewards(self, request: Request) -> JSONResponse:
        """What is served."""
        self._check(request)
        rewards = [describe(name, desk) for name, desk in self.desks.items()]
        return JSONResponse(
            {"version": mmalign.__version__, "rewards": rewards, "limits": asdict(self.limits)}
        )

    async def score(self, request: Request) -> Response:
        """Judges the samples of a request."""
        self._check(request)
        try:
            with anyio.fail_after(self.limits.timeout):
                body = await reception.read_body(request, self.limits)
                with self.room.enter(request.client.host if request.client else "") as place:
                    place.take("bytes", len(body))
                    return await self._score(request, body, place)
        except TimeoutError:
            raise Refusal(
                504, f"not done within {self.limits.timeout:g} s: send fewer samples at a time"
            ) from None
        except ClientDisconnect:
            return Response(status_code=GONE)

    async def _score(self, request: Request, body: bytes, place: reception.Place) -> Response:
        parts: dict[str, Blob] = {}
        if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            body, parts = await reception.read_form(request, body, self.limits)
        folder = Path(tempfile.mkdtemp(prefix="mmalign-serve-"))
        clean = partial(shutil.rmtree, folder, ignore_errors=True)
        unpacker = Unpacker(folder, parts)
        unpacking = self.decoders.submit(self._unpack, body, unpacker, place)
        work: Future[Any] = unpacking
        try:
            desk, order = await asyncio.wrap_future(unpacking)
            names = desk.reward.dimensions
            scores: Scores | None = Scores.failed([], names)
            if judged := [sample for sample in order.samples if sample is not None]:
                work = judging = desk.submit(judged)  # the folder is needed until they are judged
                scores = await answered(judging, request)
        except Full as full:
            raise Refusal(503, str(full), retry_after=full.seconds) from full
        finally:
            work.add_done_callback(lambda _: clean())
        if scores is None:
            return Response(status_code=GONE)
        rows = wire.scores_to_rows(among(scores, order.reasons), order.ids)
        return JSONResponse({"reward": desk.reward.name, "dimensions": list(names), "scores": rows})

    def _unpack(self, body: bytes, unpacker: Unpacker, place: reception.Place) -> tuple[Desk, Order]:
        """In a thread: JSON, then pixels."""
        asked = reception.parse(body, self.limits)
        desk = self._desk(asked.reward)
        return desk, reception.unpack(asked, unpacker, self.limits, place)

    def _desk(self, name: str | None) -> Desk:
        if name is None and len(self.desks) == 1:
            return next(iter(self.desks.values()))
        if name is None or name not in self.desks:
            raise Refusal(404, f"name one of the rewards served here: {', '.join(self.desks)}")
        return self.desks[name]

    def _check(self, request: Request) -> None:
        """Compares in constant time."""
        if self.token is None:
            return
        given = request.headers.get("authorization", "").encode("utf-8", "surrogateescape")
        if not secrets.compare_digest(given, f"Bearer {self.token}".encode()):
            raise Refusal(401, "this server wants its token: Authorization: Bearer ...")


async def answered(judging: Future[Scores], request: Request) -> Scores | None:
    """The scores, or None when the client went away first; then, and at a timeout, the job leaves the queue.

    `Refusal` 500 where an error of the reward struck every sample; one that struck some is their reason.
    """
    scores = asyncio.wrap_future(judging)
    gone = asyncio.ensure_future(_gone(request))
    try:
        either: set[asyncio.Future[Any]] = {scores, gone}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        if not scores.done():
            scores.cancel()
    if scores.cancelled():
        return None
    problem = scores.exception()
    if problem is not None:
        log.error("the reward failed", exc_info=problem)
        raise Refusal(500, f"the reward failed on this request: {type(problem).__name__}: {problem}")
    found = scores.result()
    if len(defects(found)) == len(found):
        raise Refusal(500, str(defects(found)[0]))
    return found


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def describe(name: str, desk: Desk) -> dict[str, Any]:
    """A reward as /rewards shows it."""
    reward, entry = desk.reward, CATALOG.get(name.split("#")[0])
    return {
        "name": name,
        "modalities": sorted(reward.modalities),
        "dimensions": list(reward.dimensions),
        "groups": needs_group(reward),
        "scale": entry.scale if entry else "the reward's own",
        "about": entry.about if entry else "",
        "licence": entry.licence if entry else "",
        "waiting": desk.waiting,
        "judged": desk.judged,
    }


def server(app: FastAPI, limits: Limits) -> uvicorn.Server:
    """uvicorn, set up so that idle and silent connections go away and a flood of them shuts nobody out."""
    config = uvicorn.Config(
        app,
        http=partial(Line, door=Door(limits)),  # type: ignore[arg-type]
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)


def listen(host: str, port: int, *, token: str | None) -> socket.socket:
    """The open port. An address other machines reach needs a token: without one it is a `ValueError`."""
    if not is_loopback(host) and not token:
        raise ValueError(f"{host} can be reached by other machines: give a --token, or serve on 127.0.0.1")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as problem:
        raise ValueError(
            f"cannot listen on {host}:{port} ({problem.strerror}): choose another --port"
        ) from problem


def run(
    desks: Mapping[str, Desk],
    listening: socket.socket,
    *,
    token: str | None = None,
    limits: Limits | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Serves on an open port until Ctrl-C."""
    bounds = limits or Limits()
    host, port = listening.getsockname()[:2]
    where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    say(f"serving {', '.join(desks)} on {where}{' (with a token)' if token else ''}; Ctrl-C ends it")
    for name in desks:
        which = f", reward: {name}" if len(desks) > 1 else ""
        say(f"as a reward: {{name: remote, options: {{url: {where}{which}}}}}")
    server(build(desks, limits=bounds, token=token), bounds).run(sockets=[listening])


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("::")
    (True, True, False, False)
    """
    return host in ("localhost", "::1") or host.startswith("127.")
