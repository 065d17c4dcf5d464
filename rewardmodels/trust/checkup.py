"""The whole check of one reward: from a survey of samples, labelled pairs and a pool to findings in words.

    seen = survey(asking(reward), samples, groups, gold=asking(gold))
    checked = check(asking(reward), seen, pairs=judged_pairs, pool=seen)
    checked.verdict.word    # "Use this reward with care."

Shape legend: `N` samples, `P` prompts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.stats import calibration, overoptimisation, partial
from mmalign.stats.calibration import Calibration
from mmalign.stats.intervals import Interval
from mmalign.stats.overoptimisation import Curve
from mmalign.types import Sample
from rewardmodels.trust import Ask, findings
from rewardmodels.trust.duels import Comparer, PositionBias, duel, order_matters
from rewardmodels.trust.factors import FACTORS
from rewardmodels.trust.findings import Finding
from rewardmodels.trust.health import NUM_SEEN, Health, Stability, health, stability
from rewardmodels.trust.pairs import JudgedPairs
from rewardmodels.trust.probes import PROBES
from rewardmodels.trust.survey import WINDOW_PIXELS, Decode, Survey, decode

Floats = NDArray[np.float64]
NUM_PER_PROMPT = 4
"""Prompts with fewer scored samples are left out of the over-optimisation curve."""
CURVE_PROMPTS = 4
"""Fewer prompts than this make no curve."""


@dataclass(frozen=True)
class FactorRow:
    """Three correlations of the reward with one factor; `judged` is the one the verdict rests on, `kind` says which."""

    name: str
    about: str
    overall: Interval
    within: Interval
    given_gold: Interval | None
    judged: Interval
    kind: str
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "about": self.about,
            "reason": self.reason,
            "overall": self.overall.as_dict(),
            "within_prompts": self.within.as_dict(),
            "given_gold": None if self.given_gold is None else self.given_gold.as_dict(),
            "judged_by": self.kind,
        }


@dataclass(frozen=True)
class Sureness:
    """How well something tells right pairs from wrong ones, and the accuracy when only the surest are judged."""

    name: str
    auroc: float
    selective: tuple[tuple[float, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the curve at every tenth of coverage."""
        wanted = [k / 10 for k in range(1, 11)]
        curve = [
            next(({"coverage": c, "accuracy": a} for c, a in self.selective if c >= share - 1e-9), None)
            for share in wanted
        ]
        auroc = self.auroc if math.isfinite(self.auroc) else None
        return {"auroc": auroc, "selective": [point for point in curve if point is not None]}


@dataclass(frozen=True)
class Checked:
    """Everything that was measured, and the findings."""

    survey: Survey
    health: Health
    stability: tuple[Stability, ...]
    position: PositionBias | None  # of judges of pairs
    factors: tuple[FactorRow, ...]
    gold_agreement: Interval | None
    pairs: JudgedPairs | None
    calibration: Calibration | None
    shipped: Calibration | None  # with the temperature the reward brings itself
    sureness: tuple[Sureness, ...]
    curves: tuple[tuple[str, Curve], ...]
    missing: dict[str, str]  # what was not measured, and why
    findings: tuple[Finding, ...]
    verdict: Finding

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "verdict": self.verdict.as_dict(),
            "findings": [one.as_dict() for one in self.findings],
            "not_measured": self.missing,
            "probes": {one.probe.name: one.as_dict() for one in self.survey.probes},
            "factors": {row.name: row.as_dict() for row in self.factors},
            "health": self.health.as_dict() | {"reasons": dict(self.survey.reasons.most_common(20))},
            "stability": {row.name: row.as_dict() for row in self.stability},
            "position_bias": None if self.position is None else self.position.as_dict(),
            "gold_agreement": None if self.gold_agreement is None else self.gold_agreement.as_dict(),
            "calibration": None if self.calibration is None else self.calibration.as_dict(),
            "calibration_as_shipped": None if self.shipped is None else self.shipped.as_dict(),
            "best_accuracy": None if self.pairs is None else self.pairs.best,
            "pairs_left_out": {} if self.pairs is None else dict(self.pairs.left_out),
            "sureness": {one.name: one.as_dict() for one in self.sureness},
            "over_optimisation": {name: curve.as_dict() for name, curve in self.curves},
        }


def check(
    ask: Ask,
    seen: Survey,
    *,
    pairs: JudgedPairs | None = None,
    pool: Survey | None = None,
    temperature: float | None = None,
    read: Decode = decode,
    uwo_weight: float = 1.0,
    comparer: Comparer | None = None,
) -> Checked:
    """Findings from a survey. `pairs` are held against people's labels, `pool` is where best of n chooses,
    `temperature` the one the reward itself brings. A judge of pairs (`comparer`) is asked in duels, and its order of
    showing is looked at in place of the stability of single scores.
    """
    missing: dict[str, str] = {}
    spoiled = [value for one in seen.probes for value in one.spoiled]
    state = health(seen.scores, seen.groups, spoiled=spoiled)
    steady: tuple[Stability, ...] = ()
    position = None
    if comparer is None:
        steady = tuple(stability(ask, _some(seen, read), state.spread))
    else:
        seen = replace(seen, probes=duel(comparer, seen.samples, seen.groups, PROBES, read=read))
        position = order_matters(comparer, seen.samples, seen.groups, read=read)
    rows = factor_rows(seen)
    agreement = None if seen.gold is None else partial.within(seen.scores, seen.gold, seen.groups)
    fitted, shipped, sure = _calibrated(pairs, temperature, missing)
    curves = _curves(pool, uwo_weight, missing)
    num_prompts = len(set(seen.groups))
    found = [one for answers in seen.probes if (one := findings.of_probe(answers)) is not None]
    found += [
        findings.of_factor(row.name, row.judged, row.kind, num_prompts) for row in rows if row.reason is None
    ]
    found += findings.of_health(state)
    found += [findings.of_stability(row) for row in steady]
    found += [] if position is None else findings.of_position(position)
    found += [] if agreement is None else [findings.of_agreement(agreement, num_prompts)]
    if fitted is not None and pairs is not None:
        found += findings.of_calibration(fitted, len(set(pairs.groups)), pairs.best)
    found += [findings.of_curve(curve) for _, curve in curves[:1]]
    return Checked(
        seen, state, steady, position, rows, agreement, pairs, fitted, shipped, sure, curves, missing, tuple(found),
        findings.conclude(found),
    )  # fmt: skip


def _some(seen: Survey, read: Decode) -> list[Sample]:
    """Up to NUM_SEEN scored samples, spread evenly over all, decoded; fewer if they are large."""
    scored = np.flatnonzero(np.isfinite(seen.scores))
    chosen = scored[np.linspace(0, len(scored) - 1, min(NUM_SEEN, len(scored))).round().astype(int)]
    made: list[Sample] = []
    pixels = 0
    for k in np.random.default_rng(0).permutation(chosen).tolist():
        if pixels > WINDOW_PIXELS:
            break
        made.append(read(seen.samples[k]))
        frames = made[-1].frames().shape
        pixels += frames[0] * frames[2] * frames[3]
    return made


def factor_rows(seen: Survey) -> tuple[FactorRow, ...]:
    """Every factor against the score. The verdict looks within prompts and, where gold is known, at what is left
    when gold has explained its part; where nothing repeats within a prompt, at all samples.
    """
    made = []
    for factor in FACTORS:
        if factor.name not in seen.factors:
            continue
        column = seen.factors[factor.name]
        known = column[np.isfinite(column) & np.isfinite(seen.scores)]
        reason = None
        if known.size == 0:
            reason = "these samples have none"
        elif np.ptp(known) < 1e-9:
            reason = "the same for all these samples"
        made.append(_factor_row(factor.name, factor.about, column, seen, reason))
    return tuple(made)


def _factor_row(name: str, about: str, column: Floats, seen: Survey, reason: str | None) -> FactorRow:
    nothing = Interval(float("nan"), float("nan"), float("nan"), 0)
    if reason is not None:
        return FactorRow(name, about, nothing, nothing, None, nothing, "", reason)
    overall = partial.overall(seen.scores, column, seen.groups)
    within = partial.within(seen.scores, column, seen.groups)
    inside = math.isfinite(within.mean)
    kind, judged = ("within prompts", within) if inside else ("over all samples", overall)
    given = None
    if seen.gold is not None:
        measure = partial.within if inside else partial.overall
        given = measure(seen.scores, column, seen.groups, given=[seen.gold])
        if not math.isfinite(given.mean):
            given = Interval(
                0.0, 0.0, 0.0, judged.n
            )  # gold explains the whole score: nothing is left to lean
        kind, judged = f"{kind}, given gold", given
    return FactorRow(name, about, overall, within, given, judged, kind)


def _calibrated(
    pairs: JudgedPairs | None, temperature: float | None, missing: dict[str, str]
) -> tuple[Calibration | None, Calibration | None, tuple[Sureness, ...]]:
    """Calibration with T from other prompts, with the T that was shipped, and what tells right from wrong."""
    if pairs is None or pairs.difference.size == 0:
        missing["calibration"] = "needs labelled pairs: --pairs FILE, or a --world with its own annotator"
        return None, None, ()
    try:
        p, fitted = calibration.cross_fitted(pairs.difference, pairs.chance, pairs.groups)
    except ValueError as problem:
        missing["calibration"] = str(problem)
        p, fitted = np.full(pairs.difference.size, 0.5), ()
    found = calibration.measure(p, pairs.chance, pairs.groups, temperatures=fitted)
    shipped = None
    if temperature is not None:
        own = calibration.probabilities(pairs.difference, temperature)
        shipped = calibration.measure(own, pairs.chance, pairs.groups, temperatures=[temperature])
    size = np.abs(pairs.difference)
    credit = calibration.fold(calibration.probabilities(pairs.difference, 1.0), pairs.chance)[1]
    measures: dict[str, Floats] = {"|difference|": size}
    if pairs.deviation is not None:
        measures |= {"|difference| / S": size / pairs.deviation, "1 / S": 1.0 / pairs.deviation}
    sure = tuple(
        Sureness(name, calibration.auroc(values, credit), calibration.selective(values, credit))
        for name, values in measures.items()
    )
    return found, shipped, sure


def _curves(pool: Survey | None, uwo_weight: float, missing: dict[str, str]) -> tuple[tuple[str, Curve], ...]:
    """Gold under best of n by the reward, and by ensembles of it with further rewards where there are any."""
    if pool is None or pool.gold is None:
        missing["over-optimisation"] = "needs a gold reward: --gold REWARD, or a --world with its exact judge"
        return ()
    columns = {"reward": pool.scores, **pool.others}
    known = np.all([np.isfinite(c) for c in (*columns.values(), pool.gold)], axis=0)
    members: dict[str, list[int]] = {}
    for k in np.flatnonzero(known):
        members.setdefault(pool.groups[k], []).append(int(k))
    some = [np.asarray(rows) for rows in members.values() if len(rows) >= NUM_PER_PROMPT]
    if len(some) < CURVE_PROMPTS:
        missing["over-optimisation"] = (
            f"needs {CURVE_PROMPTS} or more prompts with {NUM_PER_PROMPT} or more samples each, these have {len(some)}"
        )
        return ()
    gold = _standard(pool.gold, known)
    unit = {name: _standard(column, known) for name, column in columns.items()}
    proxies = {"reward": unit["reward"]}
    if len(unit) > 1:
        table = np.stack(list(unit.values()))
        proxies |= {f"ensemble, {rule}": overoptimisation.ensemble(table, rule, weight=uwo_weight)
                    for rule in ENSEMBLES}  # fmt: skip
    return tuple(
        (name, overoptimisation.curve([column[rows] for rows in some], [gold[rows] for rows in some]))
        for name, column in proxies.items()
    )


ENSEMBLES: tuple[overoptimisation.Rule, ...] = ("mean", "min", "uwo")


def _standard(column: Floats, known: NDArray[np.bool_]) -> Floats:
    """In standard deviations of the scored samples, mean 0; a constant stays 0."""
    center, spread = column[known].mean(), column[known].std()
    return np.asarray((column - center) / (spread if spread > 0 else 1.0))


def group_names(samples: Sequence[Sample], source_name: Callable[[Sample], str] = lambda s: "") -> list[str]:
    """Whose prompt each sample belongs to: `metadata["group"]`, or its prompt with the name of its source."""
    return [
        "\x1f".join(part for part in (sample.prompt, source_name(sample)) if part) or sample.id
        if sample.group is None
        else str(sample.group)
        for sample in samples
    ]
