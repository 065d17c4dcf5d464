"""Reading the LoRA files that diffusers writes: `pytorch_lora_weights.safetensors` with its metadata.

Shape legend: a factor pair is A (r, in) and B (out, r); the network adds alpha / r * B @ A.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

LORA_FILE = "pytorch_lora_weights.safetensors"
METADATA_KEY = "lora_adapter_metadata"


@dataclass(frozen=True, eq=False)
class LoraFile:
    """The tensors of one saved LoRA, keyed as peft names them, and its rank and alpha."""

    path: Path
    tensors: dict[str, Tensor]
    rank: int
    alpha: float
    targets: tuple[str, ...]  # suffixes of the adapted modules' names

    @property
    def scaling(self) -> float:
        return self.alpha / self.rank

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the adapted modules."""
        return tuple(sorted({key.rpartition(".lora_")[0] for key in self.tensors}))

    def pairs(self) -> dict[str, tuple[Tensor, Tensor]]:
        """(A, B) by module."""
        tensors = self.tensors
        return {m: (tensors[f"{m}.lora_A.weight"], tensors[f"{m}.lora_B.weight"]) for m in self.modules}


def is_up(key: str) -> bool:
    """True for the second factor B, which starts at zero."""
    return ".lora_B." in key


def read_lora(folder: str | Path, component: str) -> LoraFile:
    """The LoRA for `component` (`transformer` or `unet`) in a folder or safetensors file."""
    path = Path(folder)
    path = path / LORA_FILE if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"no LoRA at {path}: give a folder that holds {LORA_FILE}")
    prefix = f"{component}."
    with safe_open(path, framework="pt") as file:
        names = [name for name in list(file.keys()) if name.startswith(prefix)]
        tensors = {name.removeprefix(prefix): file.get_tensor(name) for name in names}
        metadata = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    strange = [key for key in tensors if not key.endswith((".lora_A.weight", ".lora_B.weight"))]
    if not tensors or strange:
        found = f"{strange[0]} in it" if strange else f"nothing for the {component}"
        raise ValueError(
            f"{path} is not a LoRA in the layout of diffusers and peft ({found}): convert it first"
        )
    if metadata.get(f"{prefix}rank_pattern") or metadata.get(f"{prefix}alpha_pattern"):
        raise ValueError(f"{path} has ranks that differ by module, which is not supported here")
    rank = next(int(value.shape[0]) for key, value in tensors.items() if not is_up(key))
    modules = sorted({key.rpartition(".lora_")[0] for key in tensors})
    targets = tuple(metadata.get(f"{prefix}target_modules", modules))
    return LoraFile(path, tensors, rank, float(metadata.get(f"{prefix}lora_alpha", rank)), targets)
