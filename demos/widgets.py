"""The parts of the comparison page that are drawn as HTML: cards with pictures and scores, and the tally.

Everything is inline and works without a network. Pictures of a few pixels are enlarged without smoothing.

Shapes: media is (T, C, H, W) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources

from demos.contest import Entry, Round, tally

SMALL = 160
VERDICTS = {True: '<b class="mm-right">right</b> ', False: '<b class="mm-wrong">wrong</b> '}
HINT = "Type a prompt and press Enter. Every generator starts from the same noise."


def stylesheet() -> str:
    """The style of the page."""
    return (resources.files("demos") / "assets" / "compare.css").read_text(encoding="utf-8")


def message(words: str, kind: str = "hint") -> str:
    """A sentence in place of results; `kind` is `hint` or `problem`."""
    role = "alert" if kind == "problem" else "status"
    return f'<div class="mm-message mm-{kind}" role="{role}">{escape(words)}</div>'


def results(prompt: str, rounds: Sequence[Round], rewards: Sequence[str], waiting: str | None = None) -> str:
    """The tally by reward and one row of cards a seed; `waiting` says what is still to come."""
    if not rounds:
        return message(HINT)
    rows = "".join(
        f'<section class="mm-round"><h3>seed {contest.seed}</h3><div class="mm-cards">'
        + "".join(_card(entry, contest, prompt, rewards) for entry in contest.entries)
        + "</div></section>"
        for contest in rounds
    )
    state = message(waiting) if waiting else _tallies(rounds, rewards)
    head = f"<h2>{escape(prompt)}</h2>{state}"
    return f'<div class="mm-results" aria-live="polite">{head}<div class="mm-rounds">{rows}</div></div>'


def _card(entry: Entry, contest: Round, prompt: str, rewards: Sequence[str]) -> str:
    from mmalign.inline import data_uri  # torch is loaded only when there is a picture

    side = max(entry.media.shape[-2:])
    look = "mm-pixels" if side <= SMALL else "mm-photo"
    name = escape(entry.generator)
    said = "".join(_opinion(entry, contest, reward) for reward in rewards)
    return (
        f'<figure class="mm-card"><figcaption>{name}</figcaption>'
        f'<img class="{look}" src="{data_uri(entry.media)}" alt="{name}: {escape(prompt)}, seed {contest.seed}">'
        f'<dl class="mm-scores">{said}</dl></figure>'
    )


def _opinion(entry: Entry, contest: Round, reward: str) -> str:
    opinion = entry.opinions.get(reward)
    if opinion is None:
        return ""
    if not opinion.known:
        value = f'<dd class="mm-none">no score: {escape(opinion.reason or "not given")}</dd>'
    else:
        best = contest.preferred(reward) == entry.generator
        mark = '<span class="mm-best" role="img" aria-label="preferred">★</span> ' if best else ""
        verdict = "" if opinion.right is None else VERDICTS[opinion.right]
        value = f"<dd>{mark}{verdict}{opinion.value:.4g}</dd>"
    return f"<div><dt>{escape(reward)}</dt>{value}</div>"


def _tallies(rounds: Sequence[Round], rewards: Sequence[str]) -> str:
    if len(rounds[0].entries) < 2 or not rewards:
        return ""
    lines = []
    for reward in rewards:
        count = tally(rounds, reward)
        parts = [f"{escape(name)} <b>{wins}</b>" for name, wins in count.wins.items()]
        parts += [f"undecided <b>{count.undecided}</b>"] if count.undecided else []
        lines.append(f"<li><b>{escape(reward)}</b> prefers: {' · '.join(parts)}</li>")
    return f'<ul class="mm-tally">{"".join(lines)}</ul>'
