"""The trust report: well-formed, fetches nothing, says what was found, escapes what it is given."""

from __future__ import annotations

import re

import pytest

from mmalign.stats.intervals import Interval
from pipelines.trust_charts import Mark, Series, forest, plot
from pipelines.trust_report import exhibits, render, story
from rewardmodels.trust.checkup import check
from rewardmodels.trust.pairs import surveyed_pairs
from rewardmodels.trust.survey import survey
from rewardmodels.trust.worlds import label_pairs
from tests.unit.test_report import Links
from tests.unit.trust.made import ask_of, photos

ABOUT = {"reward": "redness", "material": "<b>mine</b>", "num_samples": 48, "num_prompts": 12, "gold": "brightness",
         "pool": None, "pairs": "people", "left_out": ["a.png: damaged"], "seed": 0}  # fmt: skip


@pytest.fixture(scope="module")
def page() -> str:
    samples, groups = photos(12, 4, size=8)

    def red(sample):
        return float(sample.frames()[:, 0].mean())

    ask, gold = ask_of(red), ask_of(lambda sample: float(sample.frames().mean()))
    seen = survey(ask, samples, groups, gold=gold)
    pairs, best = label_pairs(samples, groups, seen.gold.tolist())
    checked = check(ask, seen, pairs=surveyed_pairs(pairs, seen, best=best), pool=seen, temperature=0.1)
    shown = exhibits(ask, seen, lambda sample: sample)
    assert [panel.label for panel in shown[0].panels][:2] == ["original", "wrong prompt"]
    assert (
        "Do not optimise" in checked.verdict.word
        and "wrong prompt: does not notice" in story(ABOUT, checked)[1]
    )
    return render(ABOUT, checked, shown)


def test_page_is_one_well_formed_file_that_fetches_nothing(page):
    links = Links()
    links.feed(page)
    assert links.open == []
    assert links.fetched and all(link.startswith("data:image/png;base64,") for link in links.fetched)
    assert not re.search(r"url\(|@import|<script", page)
    assert "viewport" in page and "prefers-color-scheme: dark" in page


def test_page_says_everything_and_escapes_what_it_is_given(page):
    for words in ("Do not optimise this reward.", "identity edit", "needs edits, these are images", "a.png: damaged",
                  "as shipped", "Reliability", "within prompts, given gold", "50% (50% to 50%)"):  # fmt: skip
        assert words in page, words
    assert "<b>mine</b>" not in page and "&lt;b&gt;mine" in page
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page).lower().replace("nanum", "")


def test_forest_puts_larger_values_further_right():
    rows = [
        Mark("low", Interval(0.2, 0.1, 0.3, 9), "--pass"),
        Mark("high", Interval(0.8, 0.7, 0.9, 9), "--fail"),
    ]
    drawn = forest(rows, title="t", low=0.0, high=1.0, lines=[(0.5, "half")], show=str)
    first, second = (float(x) for x in re.findall(r'<circle cx="([\d.]+)"', drawn))
    assert first < second and "half" in drawn and "low 0.2 (0.1 to 0.3)" in drawn
    with pytest.raises(ValueError, match="no row"):
        forest([], title="t", low=0.0, high=1.0, lines=[], show=str)


def test_plot_puts_larger_values_higher_and_skips_bands_that_are_not_known():
    nan = float("nan")
    line = Series("gold", "--gold", [(0.0, 1.0), (1.0, 3.0)], [(0.0, nan, nan), (1.0, 2.0, 4.0)], [3, 3])
    drawn = plot([line], title="t", across=[(0.0, "n=1"), (1.0, "n=2")], axis="d", show=lambda v: f"{v:g}")
    first, second = (float(y) for y in re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)"', drawn))
    assert second < first and "nan" not in drawn and "n=2" in drawn
    with pytest.raises(ValueError, match="no point"):
        plot([], title="t", across=[], axis="d", show=str)
