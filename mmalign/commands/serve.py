"""The verb `serve`: rewards over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from mmalign.commands.options import PANELS, Config

app = typer.Typer()


@app.command(rich_help_panel=PANELS["measure"])
def serve(
    rewards: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REWARD]... [KEY=VALUE]...",
            help="Rewards: names (`mmalign ls rewards`), folders or module:function; and settings, also "
            "max_waiting and max_requests.",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
    host: Annotated[
        str | None, typer.Option(help="The address; 127.0.0.1 is this machine only. Others need a --token.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="The port (8100).")] = None,
    token: Annotated[
        str | None,
        typer.Option(envvar="MMALIGN_TOKEN", help="What clients must send as Authorization: Bearer ..."),
    ] = None,
    max_batch: Annotated[int | None, typer.Option(help="Samples judged at once (32).")] = None,
    max_wait_ms: Annotated[float | None, typer.Option(help="How long a batch waits for more (10).")] = None,
    max_media: Annotated[int | None, typer.Option(help="Pictures and videos in a request (256).")] = None,
    max_bytes: Annotated[int | None, typer.Option(help="Largest body of a request (64 MiB).")] = None,
    max_pixels: Annotated[
        int | None, typer.Option(help="Pixels in a request, over all frames (16.8 million).")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds a request may take (60).")] = None,
) -> None:
    """Rewards over HTTP, judged in batches across requests; the reward `remote` asks them from any training.

    A reward that compares samples judges those of a request by groups: one prompt, or one `metadata.group`.
    Nothing is fetched, no path is read, nothing is unpickled. GET /health, GET /rewards, POST /score.

    POST /score takes JSON, {"samples": [{"prompt": "a red circle", "media": BASE64}]}, or a form with that as its field
    "request" and files, which it names as "part:NAME". Optional: "reward" beside "samples" (needed where several are
    served), "source", "id" and "metadata" in a sample. A list of texts as "media" is the frames of a video.

    Example: [cyan]mmalign serve shapes-verifier shapes-reward --port 8100[/]
    """
    from pipelines import settings

    words = rewards or []
    given = {
        "rewards": [word for word in words if "=" not in word],
        "host": host,
        "port": port,
        "token": token,
        "max_batch": max_batch,
        "max_wait_ms": max_wait_ms,
        "max_media": max_media,
        "max_bytes": max_bytes,
        "max_pixels": max_pixels,
        "timeout": timeout,
    }
    wanted = settings.gather(
        settings.Serve, config, given, [word for word in words if "=" in word], verb="serve"
    )
    from pipelines import serve as pipeline

    pipeline.run(wanted)
