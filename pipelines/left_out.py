"""What a verb over a whole file leaves out and goes on: counted, and the first told at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

SHOWN = 10


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
