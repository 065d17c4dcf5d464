"""The report and gallery: what is drawn, what is said for each kind of result, and that nothing is fetched.

Shapes: pictures are (T, C, H, W) in [0, 1].
"""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from mmalign.inline import data_uri
from mmalign.stats.intervals import Interval
from pipelines.charts import Point, curve, histograms, ticks, whiskers
from pipelines.gallery import Panel, Row, save_sheet, sheet
from pipelines.quickstart_report import Change, Judge, Report, headline, render, story, write

PROMPTS = (
    "a red circle",
    "two blue squares",
    "a picture of a green triangle above a yellow star",
    "three small purple crosses",
    "a large orange circle and a small blue square",
    "a square left of a circle",
)


def picture(seed: int, size: int = 32) -> torch.Tensor:
    """A coloured block on paper, a different one each seed."""
    generator = torch.Generator().manual_seed(seed)
    media = torch.full((1, 3, size, size), 0.94)
    left, top = torch.randint(2, size // 2, (2,), generator=generator).tolist()
    color = torch.rand(3, 1, 1, generator=generator)
    media[..., top : top + size // 3, left : left + size // 3] = color
    return media


def estimate(mean: float, half: float = 0.04, n: int = 200) -> Interval:
    return Interval(mean, mean - half, mean + half, n)


def change(base: float, aligned: float, half: float = 0.04) -> Change:
    return Change(estimate(base, half), estimate(aligned, half), estimate(aligned - base, half))


def example(base: float = 0.41, aligned: float = 0.62, proxy: tuple[float, float] = (-0.3, 1.1)) -> Report:
    """A report with every part filled; figures and pictures are made up."""
    rows = tuple(
        Row(
            PROMPTS[i % len(PROMPTS)],
            i,
            (
                Panel("base", picture(i), passed=i % 3 == 0, scores={"reward": i / 7 - 1}),
                Panel("aligned", picture(i + 50), passed=i % 5 != 0, scores={"reward": i / 5}),
            ),
        )
        for i in range(12)
    )
    points = [base + (aligned - base) * t / 6 for t in range(7)]
    rewards = [proxy[0] + (proxy[1] - proxy[0]) * t / 6 for t in range(7)]
    return Report(
        gold=change(base, aligned),
        proxy=change(*proxy, half=0.1),
        gold_curve=tuple(Point(10 * t, estimate(v)) for t, v in enumerate(points)),
        proxy_curve=tuple(Point(10 * t, estimate(v, 0.1)) for t, v in enumerate(rewards)),
        outcomes=("fixed",) * 52 + ("broken",) * 10 + ("kept",) * 72 + ("missed",) * 66,
        categories=(("one object", change(0.7, 0.9, 0.1)), ("two objects", change(0.2, 0.4, 0.12))),
        rows=rows,
        selection="The first 12 graded pairs, not chosen by result.",
        judge=Judge(
            passing=tuple(0.5 + t / 40 for t in range(80)),
            failing=tuple(-1.5 + t / 40 for t in range(120)),
            examples=tuple((row.prompt, row.panels[0]) for row in rows[:8]),
        ),
        facts=(("time", "3 min 20 s"), ("seed", "0")),
        commands=(("Compare side by side", "mmalign demo --lora aligned=runs/quickstart/lora"),),
        files=(("metrics.json", "the figures above"),),
        recipe="method:\n  name: grpo\n",
    )


class Links(HTMLParser):
    """Collects every address a page would fetch and every tag left open."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_one_well_formed_file_that_fetches_nothing(tmp_path):
    page = write(example(), tmp_path / "report.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(page)
    assert links.open == []
    assert links.fetched and all(link.startswith("data:image/png;base64,") for link in links.fetched)
    assert not re.search(r"url\(|@import", page)
    for needed in ("viewport", "prefers-color-scheme: dark", "image-rendering: pixelated"):
        assert needed in page


def test_page_holds_prompts_seeds_verdicts_and_figures():
    page = render(example())
    for prompt in PROMPTS:
        assert prompt in page
    assert page.count('class="seed"') == 12
    assert page.count("badge pass") + page.count("badge fail") == 24 + 8
    assert "<b>41%</b>" in page and "37% to 45%" in page and "n&nbsp;=&nbsp;200" in page
    assert "mmalign demo --lora aligned=runs/quickstart/lora" in page
    rows = re.findall(r'<th scope="row">(.*?)</th>', page)
    assert rows == ["right images (gold)", "one object", "two objects", "learned reward (proxy)"]


def test_prompts_are_escaped():
    report = example()
    row = replace(report.rows[0], prompt="<script>alert(1)</script>")
    page = render(replace(report, rows=(row,)))
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_words_follow_the_result():
    assert "up from 41%" in headline(example())
    assert "down from 41%" in headline(example(aligned=0.2))
    assert headline(example(aligned=0.44)).startswith("No clear change")
    assert any("instead of doing the task" in line for line in story(example(aligned=0.2)))
    assert any("holds zero" in line for line in story(example(aligned=0.44, proxy=(0.0, 0.05))))
    told = " ".join(story(example()))
    assert "+21 points (95% interval +17 to +25): 52 images were fixed and 10 broke" in told
    assert "instead" not in told


def test_agreement_counts_pairs_with_half_for_ties():
    judge = Judge(passing=(2.0, 1.0), failing=(1.0, 0.0), examples=())
    assert judge.agreement == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert Judge(passing=(), failing=(1.0,), examples=()).agreement is None


def test_page_without_a_judged_failure_still_renders():
    report = example()
    alone = replace(report, judge=Judge(passing=(1.0,), failing=(), examples=()), categories=())
    assert "Can the judge be trusted?" in render(alone)


def test_outcome_of_a_row_compares_last_with_first():
    def row(before: bool | None, after: bool | None) -> str:
        media = torch.zeros(3, 2, 2)
        return Row("p", 0, (Panel("a", media, before), Panel("b", media, after))).outcome

    assert [row(False, True), row(True, False), row(True, True), row(False, False), row(None, True)] == [
        "fixed",
        "broken",
        "kept",
        "missed",
        "unjudged",
    ]


def test_data_uri_keeps_pixels_and_frames():
    media = torch.rand(4, 3, 8, 8)
    image = Image.open(io.BytesIO(base64.b64decode(data_uri(media).split(",")[1])))
    assert image.n_frames == 4
    image.seek(2)
    pixels = torch.tensor(list(image.convert("RGB").get_flattened_data())).view(8, 8, 3)
    assert torch.equal(pixels, (media[2] * 255).round().long().permute(1, 2, 0))
    with pytest.raises(ValueError, match=r"\(T, 3, H, W\)"):
        data_uri(torch.zeros(8, 8))


def test_sheet_enlarges_by_whole_factors_and_frames_by_verdict(tmp_path):
    panels = (Panel("base", torch.zeros(3, 4, 4), False), Panel("aligned", torch.ones(3, 4, 4), True))
    row = Row("a red circle", 0, panels)
    page = sheet([row] * 5, columns=2, height=40)
    colors = {color for _, color in page.getcolors(maxcolors=100_000)}
    assert {(0, 0, 0), (255, 255, 255), (27, 127, 75), (179, 57, 47)} <= colors
    assert sum(n for n, color in page.getcolors(maxcolors=100_000) if color == (0, 0, 0)) == 5 * 40 * 40
    saved = save_sheet([row], tmp_path / "deep" / "grid.png")
    assert Image.open(saved).format == "PNG"
    with pytest.raises(ValueError, match="at least one row"):
        sheet([])


def test_ticks_cover_the_range_with_round_steps():
    for low, high in ((0.0, 1.0), (-3.21, 4.4), (0.412, 0.431), (5.0, 5.0)):
        marks = ticks(low, high)
        assert marks[0] <= low and marks[-1] >= high and 3 <= len(marks) <= 8


def test_curve_draws_up_as_the_value_rises():
    points = [Point(0, estimate(0.2)), Point(10, estimate(0.8))]
    drawn = curve(points, title="gold", tone="--gold", show=lambda v: f"{v:.1f}")
    first, last = (float(y) for y in re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)"', drawn))
    assert last < first
    assert "0.2 at iteration 0, 0.8 at iteration 10" in drawn


def test_empty_charts_name_themselves():
    for draw in (
        lambda: curve([], title="gold", tone="--gold", show=str),
        lambda: whiskers([], title="gold", tone="--gold", show=str),
        lambda: histograms([("a", "--pass", [])], title="gold"),
    ):
        with pytest.raises(ValueError, match="'gold'"):
            draw()


def test_histogram_counts_every_value():
    groups = [("right", "--pass", [0.0, 1.0, 1.0]), ("wrong", "--fail", [0.0])]
    drawn = histograms(groups, title="t", num_bins=2)
    heights = [float(h) for h in re.findall(r'height="([\d.]+)" fill', drawn)]
    assert heights == [20.0, 40.0, 40.0]
