"""A real server and what it answers; what cannot be judged is null with a reason."""

from __future__ import annotations

import base64
import json
import shutil
import struct
import subprocess
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from mmalign.types import Scores
from rewardmodels import server
from rewardmodels.asking import among
from rewardmodels.reception import Limits
from tests.unit.rewardmodels.serving import HTTP, Brightness, asked, fine, picture, serving, text


def bomb(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 10**6)) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def reward() -> Brightness:
    return Brightness()


@pytest.fixture(scope="module")
def url(reward: Brightness) -> Iterator[str]:
    with serving(
        {"brightness": reward}, limits=Limits(max_media=6, max_bytes=200_000, max_pixels=10_000)
    ) as address:
        yield address


def test_it_says_what_it_serves(url: str) -> None:
    assert HTTP.get(f"{url}/health").json() == {"status": "ok"}
    about = HTTP.get(f"{url}/rewards").json()
    (one,) = about["rewards"]
    assert (one["name"], one["dimensions"]) == ("brightness", ["mean", "source"])
    assert (
        one["modalities"] == ["edit", "image", "video"] and one["scale"] and about["limits"]["max_media"] == 6
    )


def test_json_and_form_give_one_answer(url: str) -> None:
    bare = base64.b64encode(picture(level=102)).decode()
    answer = HTTP.post(f"{url}/score", json=asked(text(picture()), bare)).json()
    assert answer["dimensions"] == ["mean", "source"]
    assert [row["values"]["mean"] for row in answer["scores"]] == pytest.approx([0.2, 0.4])
    body = asked("part:a", ["part:b", "part:a"]) | {"reward": "brightness"}
    body["samples"][0]["source"] = "part:b"
    files = {"a": picture(), "b": picture(level=102)}
    form = HTTP.post(f"{url}/score", data={"request": json.dumps(body)}, files=files).json()
    assert form["scores"][0]["values"] == {"mean": pytest.approx(0.2), "source": pytest.approx(0.4)}
    assert form["scores"][1]["values"]["mean"] == pytest.approx(0.3)
    assert [row["id"] for row in form["scores"]] == ["0", "1"]


def test_a_bad_picture_is_null_with_a_reason_and_harms_no_other(url: str, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture())
    noisy = Image.effect_noise((40, 40), 90)
    cut = BytesIO()
    noisy.save(cut, format="PNG")
    moving = picture(form="WEBP", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    wrong = {
        text(cut.getvalue()[:600]): "cut short",
        text(bomb(60_000)): "scale it down",
        text(picture((200, 200))): "scale it down",
        text(moving): "animated",
        text(b"not a picture"): "not a picture",
        text(b""): "not a picture",
        "data:image/png,abc": "base64",
        "***": "base64",
        "http://127.0.0.1:1/a.png": "not fetched",
        f"file://{tmp_path}/secret.png": "not fetched",
        f"{tmp_path}/secret.png": "base64",
        "part:nothing": "no file",
        text(b"\0\0\0\x20ftypisom" + b"\0" * 90): "damaged",
        text(b"12345678{}", "application/x-safetensors"): "safetensors",
    }
    for one, words in wrong.items():
        rows = HTTP.post(f"{url}/score", json=asked(text(picture()), one, text(picture()))).json()["scores"]
        assert [row["reason"] is None for row in rows] == [True, False, True], words
        assert words in rows[1]["reason"] and rows[1]["overall"] is None and rows[1]["values"]["mean"] is None
        assert "mmalign-serve" not in rows[1]["reason"] and "object at 0x" not in rows[1]["reason"]
        assert rows[2]["values"]["mean"] == pytest.approx(0.2)


def test_every_part_of_a_score_keeps_its_place_beside_a_sample_that_was_not_judged() -> None:
    judged = Scores(
        torch.tensor([[1.0, 2.0]]), ("x", "y"), torch.tensor([3.0]), torch.tensor([True]), (None,),
        torch.tensor([[0.5, 0.25]]), ({"words": "fine"},), torch.tensor([-1.0]),
    )  # fmt: skip
    whole = among(judged, ["broken", None])
    assert whole.reasons == ("broken", None) and whole.valid.tolist() == [False, True]
    assert whole.log_variance is not None and whole.log_variance[1].tolist() == [0.5, 0.25]
    assert whole.overall_log_variance is not None and whole.overall_log_variance[1] == -1.0
    assert whole.values[0].isnan().all() and whole.overall_log_variance[0].isnan()
    assert whole.details == (None, {"words": "fine"})


def test_requests_that_are_not_as_agreed_are_told_why(url: str) -> None:
    good = text(picture())
    bodies = [
        b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b'"x"', b"{}", b'{"samples": []}', b'{"samples": [1]}',
        b'{"samples": [{"prompt": 1, "media": "x"}]}', b'{"samples": [{"prompt": "x"}]}',
        json.dumps({"samples": [{"prompt": "x", "media": good, "url": "y"}]}).encode(),
        json.dumps(asked(good, model="x")).encode(),
    ]  # fmt: skip
    for body in bodies:
        answer = HTTP.post(f"{url}/score", content=body)
        assert answer.status_code == 400 and "not as agreed" in answer.json()["error"], body[:60]
    assert HTTP.post(f"{url}/score", json=asked(good, reward="other")).status_code == 404
    assert HTTP.post(f"{url}/score", json=asked(*[good] * 7)).status_code == 413
    assert HTTP.post(f"{url}/score", json=asked(*[text(picture((99, 99)))] * 2)).status_code == 413
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    for body in (b"", b"--x\r\nrubbish", b"--x\r\n\r\n--x--", b"\0" * 1000):
        assert HTTP.post(f"{url}/score", content=body, headers=form).status_code == 400
    none = HTTP.post(f"{url}/score", content=b"{}", headers={"Content-Type": "multipart/form-data"})
    assert none.status_code == 400
    assert HTTP.get(f"{url}/score").status_code == 405 and HTTP.get(f"{url}/x").status_code == 404
    assert fine(url)


def test_a_defect_of_the_reward_is_an_error_for_its_own_client_only(url: str, reward: Brightness) -> None:
    reward.free.clear()
    bad = asked(text(picture())) | {"samples": [{"prompt": "defect", "media": text(picture())}]}
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(fine, url)  # holds the reward, so that the others meet in one batch
        time.sleep(0.3)
        broken = pool.submit(HTTP.post, f"{url}/score", json=bad)
        others = [pool.submit(fine, url) for _ in range(4)]
        time.sleep(0.5)
        reward.free.set()
        assert first.result() and all(other.result() for other in others)
        assert broken.result().status_code == 500 and "a defect" in broken.result().json()["error"]


def test_a_token_is_needed_where_there_is_one() -> None:
    with serving({"brightness": Brightness()}, token="geheim") as url:
        body = asked(text(picture()))
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "geheim"},
            {"Authorization": "Bearer é"},
        ):
            sent = {key: value.encode() for key, value in headers.items()}
            assert HTTP.post(f"{url}/score", json=body, headers=sent).status_code == 401
            assert HTTP.get(f"{url}/rewards", headers=sent).status_code == 401
        right = {"Authorization": "Bearer geheim"}
        assert HTTP.post(f"{url}/score", json=body, headers=right).status_code == 200
        assert HTTP.get(f"{url}/health").status_code == 200
    with pytest.raises(ValueError, match="--token"):
        server.listen("0.0.0.0", 0, token=None)


def test_unknown_paths_and_methods_are_errors_that_say_what_there_is(url: str) -> None:
    for answer, status in ((HTTP.get(url), 404), (HTTP.get(f"{url}/score"), 405)):
        assert answer.status_code == status and answer.json().keys() == {"error"}
        assert "POST /score" in answer.json()["error"]


def test_openapi_says_what_a_request_holds(url: str) -> None:
    described = HTTP.get(f"{url}/openapi.json").json()["paths"]["/score"]["post"]["requestBody"]["content"]
    asked_for = described["application/json"]["schema"]
    assert asked_for["required"] == ["samples"] and "$ref" not in json.dumps(described)
    sample = asked_for["properties"]["samples"]["items"]
    assert sample["required"] == ["prompt", "media"] and "source" in sample["properties"]
    assert described["multipart/form-data"]["schema"]["required"] == ["request"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_requests_of_the_readme_are_answered(url: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    text = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")
    found = []
    for line in text.splitlines():
        if line.startswith(("curl ", "echo '{\"samples")):
            told = line.replace("http://127.0.0.1:8100", url).replace("curl ", "curl -s --noproxy '*' ")
            made = subprocess.run(
                ["bash", "-c", told], cwd=tmp_path, capture_output=True, text=True, check=True
            )
            found += [json.loads(made.stdout)] if made.stdout else []
    assert [one["scores"][0]["values"]["mean"] for one in found] == pytest.approx([0.2, 0.2])


@pytest.mark.parametrize(
    ("names", "said"), [(["a"], ["url: U}}"]), (["a", "b"], ["reward: a}}", "reward: b}}"])]
)
def test_the_printed_client_names_the_reward_where_there_are_several(
    names: list[str], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(server, "server", lambda *_: SimpleNamespace(run=lambda sockets: None))
    monkeypatch.setattr(server, "build", lambda *_, **__: None)
    with server.listen("127.0.0.1", 0, token=None) as port:
        server.run(dict.fromkeys(names), port, say=told.append)  # type: ignore[arg-type]
        address = f"http://127.0.0.1:{port.getsockname()[1]}"
    lines = [line.replace(address, "U") for line in told if line.startswith("as a reward")]
    assert len(lines) == len(said) and all(line.endswith(end) for line, end in zip(lines, said, strict=True))
    assert "reward:" not in lines[0].split("{", 1)[1] or len(names) > 1
