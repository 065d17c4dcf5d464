"""The comparison page: arguments, what it answers, what it says when something is wrong, and that it serves.

Shapes: media is (T, C, H, W) in [0, 1].
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from demos import compare, widgets
from demos.contest import Entry, Named, Opinion, Round, Settings, judge, parse_named, read_seeds, tally
from mmalign.types import Modality, Sample, Scores


class Painter:
    """Fills the picture with a brightness that depends on the seed and its own strength."""

    def __init__(self, name: str, strength: float, modality: Modality = "image") -> None:
        self.name, self.strength, self.modality = name, strength, modality
        self.asked: list[tuple[str, Settings]] = []

    def __call__(self, prompt: str, settings: Settings) -> list[Tensor]:
        self.asked.append((prompt, settings))
        if prompt == "explode":
            raise RuntimeError("out of memory")
        return [torch.full((1, 3, 8, 8), self.strength * (seed % 2)) for seed in settings.seeds]


class Brightness:
    """A reward that likes bright pictures and cannot judge the word `dark`."""

    name, modalities, dimensions, differentiable = "brightness", frozenset({"image"}), ("mean",), True

    def __call__(self, *, samples: Sequence[Sample]) -> Scores:
        if samples[0].prompt == "dark":
            return Scores.failed(["too dark to see"] * len(samples), self.dimensions)
        return Scores.of(torch.stack([s.frames().mean() for s in samples])[:, None], self.dimensions)


@pytest.fixture
def painters() -> list[Painter]:
    return [Painter("base", 0.4), Painter("<tuned>", 0.9)]


def answers(painters: list[Painter], prompt: str | None, seed: float | None = 0, num: float = 2) -> list[str]:
    return list(compare.respond(painters, [Brightness()], prompt, seed, num, 5, 1.0, ["brightness"]))


def test_answer_grows_and_ends_with_scores_and_the_preferred_one(painters):
    steps = answers(painters, "  a red \n circle ")
    assert len(steps) == 3 and "base is at work" in steps[0] and "&lt;tuned&gt; is at work" in steps[1]
    final = steps[-1]
    assert final.count("<img") == 4 and "a red circle" in final and "at work" not in final
    assert "<tuned>" not in final
    # seed 0 is black for both: a tie; seed 1 is 0.4 against 0.9
    assert final.count("★") == 1 and "★</span> 0.9<" in final
    assert "base <b>0</b> · &lt;tuned&gt; <b>1</b> · undecided <b>1</b>" in final
    assert painters[0].asked == painters[1].asked
    assert painters[0].asked[0][1] == Settings((0, 1), 5, 1.0)


@pytest.mark.parametrize(
    "prompt, seed, num, words",
    [
        ("", 0, 1, "type a prompt"),
        (None, 0, 1, "type a prompt"),
        ("a", None, 1, "whole number"),
        ("a", -1, 1, "whole number"),
        ("a", 0.5, 1, "whole number"),
        ("a", 0, 9, "1 to 8"),
        ("explode", 0, 1, "out of memory"),
    ],
)
def test_mistakes_are_said_in_the_page(painters, prompt, seed, num, words):
    final = answers(painters, prompt, seed, num)[-1]
    assert 'role="alert"' in final and words in final and "Traceback" not in final


def test_missing_score_shows_its_reason(painters):
    final = answers(painters, "dark")[-1]
    assert final.count("no score: too dark to see") == 4 and "★" not in final
    assert "undecided <b>2</b>" in final


def test_an_exact_judge_says_right_or_wrong():
    class Exact(Brightness):
        def passes(self, *, samples: Sequence[Sample]) -> list[bool | None]:
            return [float(sample.frames().mean()) > 0.5 for sample in samples]

    painters = [Painter("base", 0.4), Painter("tuned", 0.9)]
    final = list(compare.respond(painters, [Exact()], "a red circle", 1, 1, 5, 1.0, ["brightness"]))[-1]
    assert '<b class="mm-wrong">wrong</b> 0.4<' in final and '<b class="mm-right">right</b> 0.9<' in final
    assert "mm-right" not in answers(painters, "a red circle")[-1]


def test_editing_needs_an_image():
    editor = [Painter("editor", 1.0, "edit")]
    assert "image to edit" in answers(editor, "make it red")[-1]
    source = torch.zeros(4, 6, 3, dtype=torch.uint8).numpy()
    list(compare.respond(editor, [], "make it red", 0, 1, 5, 1.0, [], source))
    assert editor[0].asked[-1][1].source.shape == (3, 4, 6)


def test_preference_needs_all_scores_and_no_tie():
    def contest(*values: float) -> Round:
        media = torch.zeros(1, 3, 2, 2)
        return Round(0, tuple(Entry(str(i), media, {"r": Opinion(v)}) for i, v in enumerate(values)))

    nan = float("nan")
    rounds = [contest(1, 2), contest(2, 1), contest(1, 1), contest(1, nan), contest(3, 4)]
    assert [r.preferred("r") for r in rounds] == ["1", "0", None, None, "1"]
    assert contest(0.5763, 0.5751).preferred("r") is None and contest(0.58, 0.57).preferred("r") == "0"
    assert contest(-0.002, -0.003).preferred("r") == "0"
    assert contest(1.0).preferred("r") is None
    assert contest(1, 2).preferred("other") is None
    counted = tally(rounds, "r")
    assert counted.wins == {"0": 1, "1": 2} and counted.undecided == 2


def test_judge_keeps_value_and_reason():
    media = [torch.full((1, 3, 2, 2), 0.25)]
    assert judge(media, "x", [Brightness()])[0]["brightness"] == Opinion(0.25)
    assert not judge(media, "dark", [Brightness()])[0]["brightness"].known


def test_names_and_arguments(tmp_path):
    assert parse_named("a=b=c", "--lora") == Named("a", "b=c")
    assert read_seeds(3, 2) == (3, 4)
    models, loras = compare.parse_arguments([], [f"tuned={tmp_path}"])
    assert [m.name for m in models] == ["base"] and loras == [Named("tuned", str(tmp_path))]
    with pytest.raises(ValueError, match="--lora '=x' must be a path or name=path"):
        compare.parse_arguments([], ["=x"])
    with pytest.raises(ValueError, match="two generators are called 'base'"):
        compare.parse_arguments([], [f"base={tmp_path}"])
    with pytest.raises(ValueError, match="no file or folder nowhere"):
        compare.parse_arguments([], ["tuned=nowhere"])


def test_taken_port_is_said_before_anything_is_loaded():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ValueError, match="choose another --port"):
            compare.launch(port=taken.getsockname()[1])


def test_arguments_are_checked_without_torch_or_gradio():
    code = (
        "import sys\nfrom demos import compare\n"
        "try:\n    compare.launch(loras=['tuned=nowhere'])\nexcept ValueError as error:\n    print(error)\n"
        "print([m for m in ('torch', 'gradio', 'diffusers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "nowhere" in done.stdout and done.stdout.strip().endswith("[]")


def test_page_is_served_and_answers_through_the_queue(painters):
    from gradio_client import Client

    page = compare.build(painters, [Brightness()], num_steps=7)
    assert page.analytics_enabled is False
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _, url, shared = page.launch(
        server_name="127.0.0.1",
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        theme=compare.theme(),
        css=widgets.stylesheet(),
    )
    try:
        assert shared is None or not shared
        client = Client(url, verbose=False)
        final = client.predict("a red circle", 0, 2, 7, 1.0, ["brightness"], None, api_name="/compare")
    finally:
        page.close()
    assert final.count("★") == 1 and final.count("data:image/png;base64,") == 4
    assert painters[0].asked[-1][1].num_steps == 7


def test_style_and_theme_fetch_nothing():
    assert not re.search(r"url\(|@import|https?:", widgets.stylesheet())
    theme = compare.theme()
    assert theme._stylesheets == []
