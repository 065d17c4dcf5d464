"""What a verb over a whole file leaves out and goes on: counted, and the first told at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from mmalign.console import counted

SHOWN = 10
MOST_REASONS = 5
"""Different reasons that are told with their counts."""


def tell_counts(counts: Mapping[str, int], words: Callable[[int], str], file: Path) -> None:
    """How many for which reason, the most frequent first; how many more there are, and the `file` that names them."""
    console = Console()
    ranked = sorted(counts.items(), key=lambda pair: -pair[1])
    for reason, num in ranked[:MOST_REASONS]:
        console.print(f"{words(num)}: {reason}", style="yellow", markup=False, soft_wrap=True)
    rest = ranked[MOST_REASONS:]
    if rest:
        num, reasons = sum(num for _, num in rest), counted(len(rest), "further reason")
        console.print(
            f"{words(num)} for {reasons}: all are in {file}", style="yellow", markup=False, soft_wrap=True
        )


@dataclass
class LeftOut:
    """Comparisons that cannot be used, and why; only the first `SHOWN` reasons are kept."""

    num: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, _: int, reason: str) -> None:
        """One more, as `mmalign.data.formats.Complaint`: its line, and a reason that names where it stands."""
        self.num += 1
        if len(self.reasons) < SHOWN:
            self.reasons.append(reason)

    def tell(self) -> None:
        """The first reasons, and how many more there are."""
        console = Console()
        for reason in self.reasons:
            console.print(f"left out: {reason}", style="yellow", markup=False, soft_wrap=True)
        if self.num > len(self.reasons):
            console.print(f"left out: and {self.num - len(self.reasons)} more", style="yellow")

    def require(self, found: object, input: Path, wanted: str) -> None:
        """ValueError if nothing `wanted` was found in `input`; it gives the first reason."""
        if not found:
            raise ValueError(f"{input} holds no {wanted}" + f": {self.reasons[0]}" * bool(self.num))
