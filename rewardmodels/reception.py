"""What a server takes in: limits, a bounded room, and the reading of a request's body before anything is decoded.

Everything that is refused is a `Refusal` with an HTTP status and a sentence that says what to do.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from mmalign.types import Sample
from rewardmodels.blobs import Blob, Unpacker
from rewardmodels.wire import Asked, AskedSample

BUSY_SECONDS = 1.0


@dataclass(frozen=True)
class Limits:
    """What one request may hold, and how much a server holds at once."""

    max_media: int = 256  # pictures and videos in a request; a frame sent alone counts
    max_bytes: int = 2**26  # of a request's body: 64 MiB
    max_pixels: int = 2**24  # decoded, over all media and frames of a request: 64 pictures of 512 x 512
    timeout: float = 60.0  # seconds, from the first byte of a request to its answer
    max_requests: int = 64  # at once; the next one is told to come again
    hold: int = 8  # the bytes and pixels of so many largest requests are held at once; of unfinished ones as many bytes
    patience: float = 10.0  # seconds a body may take, however small; then it must have come at `slowest`
    slowest: float = 2.0**16  # bytes a second

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")


class Refusal(Exception):
    """An answer that is not a score."""

    def __init__(self, status: int, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after

    @property
    def headers(self) -> dict[str, str]:
        """`Connection: close`, because the rest of a refused body is not read."""
        again = {} if self.retry_after is None else {"Retry-After": str(max(1, math.ceil(self.retry_after)))}
        return {"Connection": "close", **again}


class Room:
    """How much of everything is held at once. Used from several threads.

    Three quarters of the places are the most that one address gets, so that another finds one.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = {"requests": 0, "bytes": 0, "pixels": 0}
        self.most = {
            "requests": limits.max_requests,
            "bytes": limits.hold * limits.max_bytes,
            "pixels": limits.hold * limits.max_pixels,
        }
        self.share = limits.max_requests - limits.max_requests // 4
        self.guests: Counter[str] = Counter()  # requests by address
        self.lock = threading.Lock()

    @contextmanager
    def enter(self, address: str) -> Iterator[Place]:
        """A place for one request; what it took is given back at the end. A full room is a 503."""
        place = Place(self)
        with self.lock:
            if self.guests[address] >= self.share:
                raise Refusal(503, "too much at once from one address: come again", retry_after=BUSY_SECONDS)
            self.guests[address] += 1
        try:
            place.take("requests", 1)
            yield place
        finally:
            with self.lock:
                place.left = True
                self.guests[address] -= 1
                self.guests += Counter()  # forgets who has left
                for kind, amount in place.taken.items():
                    self.held[kind] -= amount


class Place:
    """What one request holds of the room."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.taken: dict[str, int] = {}
        self.left = False

    def take(self, kind: str, amount: int) -> None:
        """More of something; `Refusal` 503 where the room is full, 504 where the request is over already."""
        room = self.room
        with room.lock:
            if self.left:
                raise Refusal(504, "the request is over")
            if room.held[kind] and room.held[kind] + amount > room.most[kind]:
                raise Refusal(503, "too much at once: come again", retry_after=BUSY_SECONDS)
            room.held[kind] += amount
            self.taken[kind] = self.taken.get(kind, 0) + amount


async def read_body(request: Request, limits: Limits) -> bytes:
    """The whole body, refused by its announced length, or as soon as it grows too long or comes too slowly."""
    announced = request.headers.get("content-length", "")
    too_long = Refusal(413, f"the body is larger than {limits.max_bytes} bytes: send fewer samples at a time")
    if announced.isdigit() and int(announced) > limits.max_bytes:
        raise too_long
    chunks: list[bytes] = []
    size = 0
    latest = anyio.current_time() + limits.patience
    try:
        with anyio.fail_after(limits.patience) as clock:
            async for chunk in request.stream():
                size += len(chunk)
                if size > limits.max_bytes:
                    raise too_long
                chunks.append(chunk)
                clock.deadline = latest + size / limits.slowest
    except TimeoutError:
        raise Refusal(
            408,
            f"the body comes too slowly: {size} bytes in more than {limits.patience:g} s; send fewer samples",
        ) from None
    return b"".join(chunks)


async def read_form(request: Request, body: bytes, limits: Limits) -> tuple[bytes, dict[str, Blob]]:
    """The field `request` of a multipart form and its files by name."""

    async def whole() -> AsyncIterator[bytes]:
        yield body

    parser = MultiPartParser(
        request.headers,
        whole(),  # type: ignore[arg-type]
        max_files=limits.max_media,
        max_fields=1,
        max_part_size=limits.max_bytes,
    )
    parser.spool_max_size = limits.max_bytes + 1  # it is in memory already
    try:
        form = await parser.parse()
    except MultiPartException as problem:
        raise Refusal(400, f"the form cannot be read: {problem.message}") from problem
    parts = {
        name: Blob(await file.read(), file.content_type or "")
        for name, file in form.multi_items()
        if isinstance(file, UploadFile)
    }
    asked = form.get("request")
    await form.close()
    if not isinstance(asked, str):
        raise Refusal(400, "the form has no field 'request' with the JSON of what is asked")
    return asked.encode(), parts


def parse(body: bytes, limits: Limits) -> Asked:
    """The JSON of a request, checked, its media counted."""
    try:
        asked = Asked.model_validate_json(body)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(key) for key in first["loc"])
        raise Refusal(
            400, f"the request is not as agreed: {place + ': ' if place else ''}{first['msg']}"
        ) from None
    if asked.num_media > limits.max_media:
        raise Refusal(
            413, f"{asked.num_media} media in one request, {limits.max_media} are taken: send fewer at a time"
        )
    return asked


@dataclass(frozen=True, eq=False)
class Order:
    """A request, decoded: the samples that can be judged, and for every other one the reason why not."""

    ids: tuple[str, ...]
    samples: tuple[Sample | None, ...]
    reasons: tuple[str | None, ...]


def unpack(asked: Asked, unpacker: Unpacker, limits: Limits, place: Place) -> Order:
    """Pixels of every sample. Sizes are read from the headers and added up before anything is decoded."""
    ready: list[tuple[list[Blob], list[Blob] | None] | str] = []
    total = 0
    for sample in asked.samples:
        found, pixels = _weighed(sample, unpacker, limits)
        ready.append(found)
        total += pixels
    if total > limits.max_pixels:
        raise Refusal(
            413, f"{total} pixels in one request, {limits.max_pixels} are taken: send fewer samples at a time"
        )
    place.take("pixels", total)
    made = [_decoded(s, blobs, unpacker, limits) for s, blobs in zip(asked.samples, ready, strict=True)]
    return Order(
        tuple(sample.id for sample in asked.samples),
        tuple(one if isinstance(one, Sample) else None for one in made),
        tuple(one if isinstance(one, str) else None for one in made),
    )


def _weighed(
    sample: AskedSample, unpacker: Unpacker, limits: Limits
) -> tuple[tuple[list[Blob], list[Blob] | None] | str, int]:
    """The blobs of a sample and its pixels; or the reason why it cannot be judged, and none."""
    try:
        blobs, source = unpacker.blobs(sample)
        pixels = unpacker.pixels([*blobs, *(source or [])])
    except (ValueError, OSError) as problem:
        return _sentence(problem, unpacker), 0
    if pixels > limits.max_pixels:
        return f"{pixels} pixels, more than the {limits.max_pixels} this server takes: scale it down", 0
    return (blobs, source), pixels


def _decoded(
    sample: AskedSample,
    blobs: tuple[list[Blob], list[Blob] | None] | str,
    unpacker: Unpacker,
    limits: Limits,
) -> Sample | str:
    if isinstance(blobs, str):
        return blobs
    try:
        media = unpacker.media(blobs[0], limits.max_pixels)
        source = None if blobs[1] is None else unpacker.media(blobs[1], limits.max_pixels)
    except (ValueError, OSError) as problem:
        return _sentence(problem, unpacker)
    return Sample(sample.prompt, media, source, sample.id, sample.metadata)


def _sentence(problem: Exception, unpacker: Unpacker) -> str:
    """What is wrong, in one line that does not tell where the server keeps its files."""
    return " ".join(str(problem).split()).replace(f"{unpacker.folder}/", "")
