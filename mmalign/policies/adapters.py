"""LoRA weights inside a frozen network, through peft.

Shape legend: a factor pair is A (r, in) and B (out, r); the network adds alpha / r * B @ A.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from mmalign.policies.lora_files import LoraFile, is_up, read_lora
from mmalign.policies.weights import POLICY, REFERENCE, Copies, Values

ADAPTER = "default"


def check_targets(network: nn.Module, targets: Sequence[str]) -> None:
    """Every target must be the suffix of at least one module's name: peft ignores the others silently."""
    names = [name for name, _ in network.named_modules()]
    idle = [t for t in targets if not any(name == t or name.endswith(f".{t}") for name in names)]
    if idle or not targets:
        ends = sorted(
            {name.rpartition(".")[2] for name, module in network.named_modules() if is_linear(module)}
        )
        raise ValueError(
            f"LoRA targets that match no module of {type(network).__name__}: {', '.join(idle) or '(none given)'}; "
            f"its linear layers end in {', '.join(ends)}"
        )


def is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


class LoraWeights:
    """A LoRA adapter in the network; everything else is frozen, shared by all names and never copied."""

    def __init__(
        self,
        network: Any,
        *,
        targets: Sequence[str],
        rank: int,
        alpha: float,
        pipeline_class: Any,
        component: str,
        seed: int = 0,
    ) -> None:
        check_targets(network, targets)
        self.network, self.pipeline_class, self.component = network, pipeline_class, component
        self.scaling = alpha / rank
        network.requires_grad_(False)
        self.config = LoraConfig(
            r=rank, lora_alpha=alpha, target_modules=list(targets), init_lora_weights="gaussian"
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network.add_adapter(self.config, adapter_name=ADAPTER)
        self.layers = [module for module in network.modules() if isinstance(module, BaseTunerLayer)]
        inserted = f".{ADAPTER}."
        self.copies = Copies(
            {key.replace(inserted, "."): p for key, p in network.named_parameters() if inserted in key}
        )
        for parameter in self.trainable():
            parameter.data = parameter.data.float()  # half precision would lose small updates

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.copies.names, REFERENCE)

    def trainable(self) -> list[nn.Parameter]:
        return list(self.copies.parameters.values())

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        before = [layer.disable_adapters for layer in self.layers]
        self._switch([name == REFERENCE] * len(before))
        try:
            with self.copies.using(POLICY if name == REFERENCE else name):
                yield
        finally:
            self._switch(before)

    def _switch(self, disabled: Sequence[bool]) -> None:
        """Switch adapter layers off or on; peft's own `enable_adapters` would change `requires_grad` with it."""
        for layer, off in zip(self.layers, disabled, strict=True):
            layer._disable_adapters = off

    def _values(self, name: str) -> Values:
        if name != REFERENCE:
            return self.copies.values(name)
        policy = self.copies.values(POLICY)
        return {key: torch.zeros_like(value) if is_up(key) else value for key, value in policy.items()}

    def add(self, name: str, copy_of: str = POLICY) -> None:
        self.copies.add(name, self._values(copy_of))

    def add_lora(self, name: str, folder: str | Path) -> None:
        self.copies.add(name, self._fitted(read_lora(folder, self.component)))

    def load_lora(self, folder: str | Path) -> None:
        self.copies.blend(POLICY, self._fitted(read_lora(folder, self.component)), decay=0.0)

    def _fitted(self, file: LoraFile) -> Values:
        """A saved LoRA as values of this network's parameters, B in this adapter's scaling."""
        mine = self.copies.values(POLICY)
        odd = sorted(set(file.tensors) ^ set(mine))
        if odd:
            raise ValueError(
                f"the LoRA in {file.path} adapts other modules than this policy (for example {odd[0]}): "
                "load the policy with the base and the targets that LoRA was trained with"
            )
        factor = file.scaling / self.scaling

        def fit(key: str, value: Tensor) -> Tensor:
            return value * factor if is_up(key) and factor != 1.0 else value

        return {key: fit(key, value.to(mine[key])) for key, value in file.tensors.items()}

    def copy(self, src: str, dst: str) -> None:
        self.copies.blend(dst, self._values(src), decay=0.0)

    def blend(self, dst: str, src: str, decay: float) -> None:
        self.copies.blend(dst, self._values(src), decay)

    def merge_negative(
        self, name: str, *, offset: str, preference: str = POLICY, alpha: float = 1.0, beta: float = 1.0
    ) -> None:
        """The sum of two low-rank offsets is one of the summed rank: A stacked, B side by side. Exact."""
        liked, turned = self._values(preference), self._values(offset)
        merged = {
            key: torch.cat([alpha * liked[key], beta * turned[key]], dim=1)
            if is_up(key)
            else torch.cat([liked[key], turned[key]], dim=0)
            for key in liked
        }
        self.copies.add(name, merged)

    def state_dict(self) -> Values:
        return self.copies.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.copies.load_state_dict(state)

    def save_lora(self, folder: str | Path, name: str = POLICY) -> None:
        with self.using(name):
            layers = get_peft_model_state_dict(self.network, adapter_name=ADAPTER)
        if name == REFERENCE:
            layers = {key: torch.zeros_like(value) if is_up(key) else value for key, value in layers.items()}
        rank = next(int(value.shape[0]) for key, value in layers.items() if not is_up(key))
        config = self.config.to_dict()
        config |= {"r": rank, "lora_alpha": self.scaling * rank}
        config["target_modules"] = sorted(config["target_modules"])
        tensors = {key: value.detach().cpu().contiguous() for key, value in layers.items()}
        self.pipeline_class.save_lora_weights(
            save_directory=str(folder),
            **{f"{self.component}_lora_layers": tensors, f"{self.component}_lora_adapter_metadata": config},
        )

    def save_full(self, folder: str | Path, name: str = POLICY) -> None:
        """The network with the adapter merged into it."""
        with self.copies.using(POLICY if name == REFERENCE else name):
            merged = copy.deepcopy(self.network)
        if name != REFERENCE:
            merged.fuse_lora(adapter_names=[ADAPTER])
        merged.unload_lora()
        merged.save_pretrained(str(folder), safe_serialization=True)
