"""Comparisons of three or more candidates as wholes: right only if every pair of them is ordered as people have it.

So EditReward-Bench (arXiv 2509.26346) counts its items of three and four candidates. A comparison counts where every
two of its candidates have a label; one with a pair that could not be judged is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from mmalign.stats import agreement
from mmalign.types import PreferencePair


def whole_orders(
    found: Sequence[PreferencePair], judged: Sequence[PreferencePair], difference: Sequence[float],
    label: Sequence[int],
) -> dict[str, Any] | None:  # fmt: skip
    """The share of right wholes among those of the pairs `found` of which all were judged; None without any."""
    owner = _owners(found)
    complete = {name for name, size in _sizes(found, owner).items() if size >= 3}
    num_found, num_judged = (Counter(owner[id(pair)] for pair in some) for some in (found, judged))
    kept = [
        k
        for k, pair in enumerate(judged)
        if owner[id(pair)] in complete and num_judged[owner[id(pair)]] == num_found[owner[id(pair)]]
    ]
    if not kept:
        return None
    names = [owner[id(judged[k])] for k in kept]
    return agreement.whole_orders([difference[k] for k in kept], [label[k] for k in kept], names).as_dict()


def _owners(found: Sequence[PreferencePair]) -> dict[int, int]:
    """Of every pair, by its id(), the comparison that it is from: pairs of one share their samples."""
    known: dict[int, int] = {}
    made: dict[int, int] = {}
    for number, pair in enumerate(found):
        name = known.get(id(pair.a), known.get(id(pair.b), number))
        made[id(pair)] = known[id(pair.a)] = known[id(pair.b)] = name
    return made


def _sizes(found: Sequence[PreferencePair], owner: dict[int, int]) -> dict[int, int]:
    """How many candidates a comparison has, 0 where some two of them have no label."""
    members: dict[int, set[int]] = {}
    pairs = Counter(owner[id(pair)] for pair in found)
    for pair in found:
        members.setdefault(owner[id(pair)], set()).update((id(pair.a), id(pair.b)))
    return {
        name: len(some) if pairs[name] == len(some) * (len(some) - 1) // 2 else 0
        for name, some in members.items()
    }
