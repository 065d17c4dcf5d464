"""Which words a prompt asks for, and how near the words in a picture come to them.

>>> wanted('A shop sign that says "Open Late" and a paper cup with "Tea" on it')
('Open Late', 'Tea')
>>> wanted("A storefront with 'Bread & Butter' on its window; it's raining")
('Bread & Butter',)
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_QUOTED = (
    re.compile(r'"([^"]*)"|“([^”]+)”|„([^“”]+)[“”]|«([^»]+)»|「([^」]+)」'),
    # single quotes are apostrophes, too: one opens after a space and closes before something that is no letter
    re.compile(r"(?<![^\s(\[:,])[‘']([^'’]+(?:[’'](?=\w)[^'’]+)*)[’'](?!\w)"),
)


def wanted(prompt: str) -> tuple[str, ...]:
    """The quoted texts of a prompt in order; single quotes count only where there are no double ones."""
    for pattern in _QUOTED:
        found = ["".join(part for part in match.groups() if part) for match in pattern.finditer(prompt)]
        texts = tuple(text for text in found if plain(text))
        if texts:
            return texts
    return ()


def plain(text: str) -> str:
    """Lower case, without white space.

    >>> plain("Step Goal")
    'stepgoal'
    """
    return "".join(text.lower().split())


def contained(target: str, found: str) -> float:
    """flow_grpo's score of pictures: 1 if the target occurs, else 1 - min(edit distance, length) / length.

    The distance is to everything that was read, so other words in the picture cost, but never below 0.

    >>> contained("Tea", "GREEN tea"), contained("Tea", "tee"), contained("Tea", "")
    (1.0, 0.6666666666666667, 0.0)
    """
    goal, read = plain(target), plain(found)
    return 1.0 if goal in read else whole(target, found)


def whole(target: str, found: str) -> float:
    """flow_grpo's score of frames: as `contained`, but other words cost even where the target occurs.

    >>> whole("Tea", "GREEN tea")
    0.0
    """
    from rapidfuzz.distance import Levenshtein

    goal, read = plain(target), plain(found)
    return 1.0 - min(Levenshtein.distance(read, goal), len(goal)) / len(goal)


def closest(target: str, found: str) -> float:
    """1 - the least edit distance between the target and any part of what was read, over the target's length.

    Other words cost nothing, and a misspelt target among them is still seen (Sellers 1980).

    >>> closest("Tea", "GREEN tee"), closest("Tea", "GREEN tea")
    (0.6666666666666667, 1.0)
    """
    goal, read = plain(target), plain(found)
    above = [0] * (len(read) + 1)  # a part may begin anywhere
    for row, letter in enumerate(goal, 1):
        line = [row]
        for column, other in enumerate(read, 1):
            line.append(min(above[column] + 1, line[-1] + 1, above[column - 1] + (letter != other)))
        above = line
    return 1.0 - min(above) / len(goal)


MEASURES = {"contained": contained, "closest": closest, "whole": whole}


def compare(targets: Sequence[str], found: str) -> dict[str, float]:
    """All measures: the mean over targets; `whole` compares them all together, in the order of the prompt."""
    scores = {
        name: sum(measure(target, found) for target in targets) / len(targets)
        for name, measure in MEASURES.items()
        if name != "whole"
    }
    return scores | {"whole": whole("".join(targets), found)}
