"""Judges on any OpenAI-compatible server (vLLM, SGLang, hosted ones): chat completions over HTTP.

Pictures travel as PNG data URLs. Requests run side by side up to a limit; 408, 429, 5xx, timeouts, broken connections
and answers that are no chat completion are tried again, later and later; what remains is a problem of that question
alone. A refused key or an unknown model is an error for all. Answers are kept in a cache as they arrive.

Legend: W words.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import os
import random
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import anyio
import httpx

from rewardmodels.clips import Clip
from rewardmodels.judges.answers import Answers
from rewardmodels.judges.budget import Budget
from rewardmodels.judges.chat import Answer, Part, Question, Sampling, Words, key_of, png
from rewardmodels.judges.replies import Record, among, answer_of, first_tokens, parsed
from rewardmodels.judges.verdicts import quote

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

MAX_BODY = 16 * 2**20
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
NUM_ALTERNATIVES = 20
"""How many likely tokens are asked for: the most that the protocol allows."""


@dataclass
class Endpoint:
    """An engine behind a URL such as `http://127.0.0.1:8000/v1`; the key is read from the environment."""

    url: str
    model: str
    key_env: str = "OPENAI_API_KEY"
    concurrency: int = 16
    timeout: float = 120.0
    retries: int = 5
    backoff: float = 0.5
    longest_wait: float = 60.0
    budget: Budget = field(default_factory=Budget)
    answers: Answers = field(default_factory=Answers)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"the server must be a URL such as http://127.0.0.1:8000/v1, got '{self.url}'")
        if self.concurrency < 1 or self.retries < 0 or self.timeout <= 0:
            raise ValueError("concurrency must be at least 1, retries at least 0, timeout above 0")

    @property
    def name(self) -> str:
        """The model: what decides the answers, wherever it is served."""
        return self.model

    def generate(self, questions: Sequence[Question], sampling: Sequence[Sampling]) -> list[Answer]:
        """One answer a question."""
        requests = [(question, _sampled(how)) for question, how in zip(questions, sampling, strict=True)]
        return [
            Answer(problem=found) if isinstance(found, str) else Answer(**found)
            for found in self._ask(requests, answer_of)
        ]

    def first_words(
        self, questions: Sequence[Question], words: Sequence[str], *, variants: bool = True
    ) -> list[Words]:
        """Log-probabilities of the words among the 20 likeliest first tokens; -inf for the others."""
        wanted = {"max_tokens": 1, "temperature": 0.0, "logprobs": True, "top_logprobs": NUM_ALTERNATIVES}
        found = self._ask([(question, wanted) for question in questions], first_tokens)
        return [
            Words(problem=one) if isinstance(one, str) else among(one["tokens"], words, variants=variants)
            for one in found
        ]

    # ------------------------------------------------------------ asking

    def _ask(
        self, requests: Sequence[tuple[Question, Record]], read: Callable[[Any], Record]
    ) -> list[Record | str]:
        """A record or a problem for each; equal requests are sent once, and kept answers not at all."""
        keys = [key_of(self.model, question, asked) for question, asked in requests]
        found: dict[str, Record | str] = {}
        for key in dict.fromkeys(keys):
            kept = self.answers.get(key)
            if kept is not None:
                found[key] = kept
        todo = {key: request for key, request in zip(keys, requests, strict=True) if key not in found}
        if todo:
            self.budget.start()
            try:
                found |= _complete(lambda: self._all(todo, read))
            finally:
                self.budget.stop()
        return [found[key] for key in keys]

    async def _all(
        self, todo: Mapping[str, tuple[Question, Record]], read: Callable[[Any], Record]
    ) -> dict[str, Record | str]:
        """All requests, at most `concurrency` at a time; the first error of all stops the rest."""
        waiting = iter(todo.items())
        found: dict[str, Record | str] = {}
        key = os.environ.get(self.key_env)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=self.concurrency)
        trust = _certificates() if self.url.startswith("https:") else False
        async with httpx.AsyncClient(
            headers=headers, limits=limits, timeout=self.timeout, verify=trust
        ) as client:

            async def work() -> None:
                for key, (question, asked) in waiting:
                    found[key] = made = await self._one(client, question, asked, read)
                    if not isinstance(made, str):
                        self.answers.put(key, made)

            async with anyio.create_task_group() as group:
                for _ in range(min(self.concurrency, len(todo))):
                    group.start_soon(work)
        return found

    async def _one(
        self, client: httpx.AsyncClient, question: Question, asked: Record, read: Callable[[Any], Record]
    ) -> Record | str:
        """One request with its retries."""
        body = self._body(question, asked)
        problem = "not asked"
        for attempt in range(self.retries + 1):
            spent = self.budget.problem()
            if spent is not None:
                return spent if attempt == 0 else f"{spent} (before that: {problem})"
            self.budget.spend_request()
            pause = self.backoff * 2**attempt * random.uniform(0.5, 1.0)
            try:
                status, text, after = await self._post(client, body)
            except (httpx.TransportError, TimeoutError) as error:
                problem = f"no answer from {self.url}: {type(error).__name__} {error}".strip()
            else:
                if status == 200:
                    try:
                        record = read(parsed(text))
                    except ValueError as error:
                        problem = str(error)
                    else:
                        self.budget.spend_tokens(record.pop("_tokens"))
                        return record
                else:
                    problem = f"{self.url} answered {status}: {quote(text)}"
                    self._refuse(status, text)
                    if status not in AGAIN:
                        return problem
                    pause = max(pause, after)
            if attempt < self.retries:
                await asyncio.sleep(max(0.0, min(pause, self.longest_wait, self.budget.left())))
        return f"{problem} (tried {self.retries + 1} times)"

    async def _post(self, client: httpx.AsyncClient, body: bytes) -> tuple[int, str, float]:
        """Status, text and the seconds that the server asks to wait. A body without end is cut off."""
        within = min(self.timeout, max(self.budget.left(), 0.001))
        with anyio.fail_after(within):
            address = f"{self.url.rstrip('/')}/chat/completions"
            kind = {"Content-Type": "application/json"}
            async with client.stream("POST", address, content=body, headers=kind) as response:
                parts, size = [], 0
                async for part in response.aiter_bytes():
                    size += len(part)
                    if size > MAX_BODY:
                        break
                    parts.append(part)
        try:
            after = float(response.headers.get("retry-after", "0"))
        except ValueError:
            after = 0.0  # a date: our own pause is used
        text = b"".join(parts).decode("utf-8", errors="replace")
        return response.status_code, text, after if math.isfinite(after) else 0.0

    def _refuse(self, status: int, text: str) -> None:
        if status in (401, 403):
            raise ValueError(f"{self.url} refused the key: set {self.key_env} ({status}: {quote(text)})")
        if status == 404:
            raise ValueError(
                f"{self.url} has no model '{self.model}', or is no OpenAI-type URL: {quote(text)}"
            )

    def _body(self, question: Question, asked: Mapping[str, Any]) -> bytes:
        messages = [
            {"role": message.role, "content": [made for part in message.parts for made in _content(part)]}
            for message in question.messages
        ]
        record: Record = {"model": self.model, "messages": messages, **asked}
        if question.start:  # understood by vLLM and SGLang
            messages.append({"role": "assistant", "content": [{"type": "text", "text": question.start}]})
            record |= {"continue_final_message": True, "add_generation_prompt": False}
        return json.dumps(record).encode()


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    """Reading them takes a while, so it is done once."""
    return httpx.create_ssl_context()


def _complete(start: Callable[[], Awaitable[dict[str, Record | str]]]) -> dict[str, Record | str]:
    """Run to the end, in a thread of its own where this one already runs an event loop (a notebook)."""

    async def whole() -> dict[str, Record | str]:
        return await start()

    def run() -> dict[str, Record | str]:
        try:
            return asyncio.run(whole())
        except ExceptionGroup as group:
            raise _all_of(group) from None

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def _all_of(group: ExceptionGroup) -> Exception:
    """One error that tells every different one of a group; what users cannot mend stays a group with its traces."""
    found: dict[str, Exception] = {}
    for one in group.exceptions:
        told = _all_of(one) if isinstance(one, ExceptionGroup) else one
        found.setdefault(f"{type(told).__name__}: {told}", told)
    if len(found) == 1:
        return next(iter(found.values()))
    if all(isinstance(one, ValueError | OSError) for one in found.values()):
        return ValueError("; ".join(str(one) for one in found.values()))
    return group


def _content(part: Part) -> list[Record]:
    """A text, a picture, or the frames of a clip as pictures."""
    if isinstance(part, str):
        return [{"type": "text", "text": part}]
    pictures = part.frames if isinstance(part, Clip) else part[None]
    urls = [f"data:image/png;base64,{base64.b64encode(png(picture)).decode()}" for picture in pictures]
    return [{"type": "image_url", "image_url": {"url": url}} for url in urls]


def _sampled(how: Sampling) -> Record:
    """The request's fields of a sampling; fields at their neutral value are left out, which every server knows."""
    record: Record = {"max_tokens": how.max_tokens, "temperature": how.temperature, "seed": how.seed}
    if how.temperature > 0:
        record["top_p"] = how.top_p
        if how.top_k:
            record["top_k"] = how.top_k
    if how.schema is not None:
        schema = {"name": "verdict", "schema": dict(how.schema), "strict": True}
        record["response_format"] = {"type": "json_schema", "json_schema": schema}
    return record
