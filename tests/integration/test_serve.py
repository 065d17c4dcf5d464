"""`mmalign serve` as a process, asked by `mmalign score` through the reward `remote`, for groups too."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from mmalign import media
from mmalign.__main__ import main
from mmalign.shapes import render

ROOT = Path(__file__).resolve().parents[2]


def test_a_served_reward_scores_files_as_the_reward_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k, image in enumerate(render(["a red circle", "a blue square"], seed=1)):
        media.write(tmp_path / f"in/{k}.png", image)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = ["shapes-verifier", "shapes-reward", str(tmp_path / "compared.yaml")]
    (tmp_path / "compared.yaml").write_text("{name: shapes-verifier, scale: zscore}", encoding="utf-8")
    command = [sys.executable, "-m", "mmalign", "serve", *names, f"--port={port}"]
    environment = os.environ | {"MMALIGN_TOKEN": "geheim"}
    running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, running)
        rewards = [
            {"name": "remote", "options": {"url": url, "reward": name, "token_env": "HOUSE_TOKEN"}}
            for name in names
        ]
        (tmp_path / "score.yaml").write_text(json.dumps({"rewards": rewards}), encoding="utf-8")
        os.environ["HOUSE_TOKEN"] = "geheim"
        given = ["score", str(tmp_path / "in"), "--prompt", "a red circle"]
        _run([*given, "--config", str(tmp_path / "score.yaml"), "-o", str(tmp_path / "there")])
        _run([*given, *(word for name in names for word in ("--reward", name)), "-o", str(tmp_path / "here")])
    finally:
        os.environ.pop("HOUSE_TOKEN", None)
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=60)
    assert running.returncode in (0, 130, -signal.SIGINT) and "serving shapes-verifier, shapes-reward" in said
    capsys.readouterr()
    there, here = _scores(tmp_path / "there"), _scores(tmp_path / "here")
    assert len(there) == 6 and any(scores["overall"] < 0 for scores in there)
    for one, other in zip(there, here, strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_mistakes_are_one_line_and_nothing_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for words, told in [
            (["serve", "shapes-verifier", "--port", port], "another --port"),
            (["serve", "shapes-verifier", "--host", "0.0.0.0", "--port", "0"], "give a --token"),
            (["serve"], "rewards"),
            (["serve", "shapes-verifier", "max_batches=3"], "max_batch"),
            (["serve", "shapes-verifer", "--port", "0"], "shapes-verifier"),
        ]:
            with pytest.raises(SystemExit) as ended:
                main(words)
            assert ended.value.code == 2
            assert told in capsys.readouterr().err


def _run(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0


def _scores(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    return [scores for line in lines for scores in json.loads(line)["scores"].values()]


def _wait_for(url: str, running: subprocess.Popen[str]) -> None:
    for _ in range(600):
        assert running.poll() is None
        try:
            if httpx.get(f"{url}/health", timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError("the server did not start")
