"""A small real HTTP server that speaks the chat-completions protocol, with faults on request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any, dict[str, str]]
"""Status, body (a record, or text that is sent as it is), headers."""


def said(text: str, *, tokens: int = 10, finish: str = "stop") -> Reply:
    """An answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": tokens - 1, "completion_tokens": 1, "total_tokens": tokens}
    return 200, {"choices": [choice], "usage": usage}, {}


def likely(tokens: Sequence[tuple[str, float]]) -> Reply:
    """An answer with the log-probabilities of its first token."""
    rows = [{"token": token, "logprob": log, "bytes": None} for token, log in tokens]
    status, body, headers = said(tokens[0][0])
    body["choices"][0]["logprobs"] = {"content": [{**rows[0], "top_logprobs": rows}]}
    return status, body, headers


def text_of(request: dict[str, Any]) -> str:
    """All words of a request."""
    parts = [part for message in request["messages"] for part in message["content"]]
    return " ".join(part["text"] for part in parts if part["type"] == "text")


@dataclass
class Seen:
    """What reached the server."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0


@contextmanager
def serve(answer: Callable[[dict[str, Any], int], Reply], *, delay: float = 0.0) -> Iterator[Seen]:
    """A server on a free port; `answer` gets each request and its number, status 0 breaks the connection."""
    seen, lock = Seen(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(seen.requests)
                seen.requests.append(request)
                seen.keys.append(self.headers.get("Authorization"))
                seen.paths.append(self.path)
                seen.at_once += 1
                seen.most_at_once = max(seen.most_at_once, seen.at_once)
            time.sleep(delay)
            with lock:
                seen.at_once -= 1
            status, body, headers = answer(request, number)
            if status == 0:
                self.close_connection = True
                self.connection.close()
                return
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            with suppress(OSError):  # the client may have given up
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    seen.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
