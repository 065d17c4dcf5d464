"""The verb `serve`: rewards by name behind `rewardmodels.server`, until Ctrl-C."""

from __future__ import annotations

from pipelines import judges
from pipelines.settings import Serve
from rewardmodels import server
from rewardmodels.desk import Desk
from rewardmodels.reception import Limits


def run(settings: Serve) -> None:
    """Opens the port, loads the rewards, a queue and a thread each, and serves them."""
    listening = server.listen(settings.host, settings.port, token=settings.token)
    limits = Limits(
        max_media=settings.max_media,
        max_bytes=settings.max_bytes,
        max_pixels=settings.max_pixels,
        timeout=settings.timeout,
        max_requests=settings.max_requests,
    )
    desks = {
        judge.label: Desk(
            judge.model,
            max_batch=settings.max_batch,
            max_wait=settings.max_wait_ms / 1000,
            max_waiting=settings.max_waiting,
        )
        for judge in judges.load(settings.rewards, company="groups")
    }
    server.run(desks, listening, token=settings.token, limits=limits)
