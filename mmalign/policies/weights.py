"""The weights of a policy: what is trained, and the other values the same parameters can take.

A policy has one set of trained parameters, the *policy* itself. `reference` is the original network. Further
named copies (`old`, `ema`, `negative`) are stored beside it. `using(name)` exchanges the storage of the
parameters, so that the one network predicts with those values; it neither copies data nor touches
`requires_grad`, and a graph recorded before still sees its own values once the block is left. Do not call
`backward` inside the block for a graph that was recorded outside.

Two implementations share one interface: `LoraWeights` in `adapters.py` (the reference is the adapter switched
off) and `FullWeights` here (every parameter; the reference is a stored copy).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmalign.policies.lora_files import read_lora

POLICY, REFERENCE = "policy", "reference"
Values = dict[str, Tensor]


class Weights(Protocol):
    """The parameters of one network, under several names."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def trainable(self) -> list[nn.Parameter]:
        """The parameters an optimiser gets."""
        ...

    def using(self, name: str) -> AbstractContextManager[None]:
        """The network predicts with the weights called `name` inside the block."""
        ...

    def add(self, name: str, copy_of: str = POLICY) -> None:
        """A further copy, for example `old` or `ema`."""
        ...

    def add_lora(self, name: str, folder: str | Path) -> None:
        """The original network with a saved LoRA, as the copy called `name`."""
        ...

    def load_lora(self, folder: str | Path) -> None:
        """A saved LoRA as the start of the policy."""
        ...

    def copy(self, src: str, dst: str) -> None:
        """dst <- src."""
        ...

    def blend(self, dst: str, src: str, decay: float) -> None:
        """dst <- decay * dst + (1 - decay) * src."""
        ...

    def merge_negative(
        self, name: str, *, offset: str, preference: str = POLICY, alpha: float = 1.0, beta: float = 1.0
    ) -> None:
        """theta_neg = theta + alpha * (preference - theta) + beta * (offset - theta), as the copy `name`."""
        ...

    def state_dict(self) -> Values:
        """The policy and all added copies, keyed `<name>/<parameter>`; the reference is not among them."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...

    def save_lora(self, folder: str | Path, name: str = POLICY) -> None:
        """`pytorch_lora_weights.safetensors`, as `pipe.load_lora_weights(folder)` reads it."""
        ...

    def save_full(self, folder: str | Path, name: str = POLICY) -> None:
        """The whole network, as `from_pretrained` of its class reads it."""
        ...


class Copies:
    """Parameters by name, with further named sets of values for them; `fixed` sets are never written or saved."""

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], fixed: Mapping[str, Values] | None = None
    ) -> None:
        self.parameters = dict(parameters)
        self.fixed = dict(fixed or {})
        self.stored: dict[str, Values] = {}
        self._outside: Values | None = None  # the policy's values while others are in use

    @property
    def names(self) -> tuple[str, ...]:
        return (POLICY, *self.fixed, *self.stored)

    def values(self, name: str) -> Values:
        """The tensors called `name` themselves, not a copy."""
        if name == POLICY:
            return self._outside or {key: p.data for key, p in self.parameters.items()}
        found = self.fixed.get(name, self.stored.get(name))
        if found is None and name == REFERENCE:
            raise ValueError("this policy was loaded without its reference: load it with reference=True")
        if found is None:
            known = ", ".join(self.names)
            raise ValueError(
                f"no weights called {name!r}, only {known}: add({name!r}) makes a copy of the policy"
            )
        return found

    def add(self, name: str, values: Mapping[str, Tensor]) -> None:
        """Store a copy of `values` under a new name."""
        if name in (POLICY, REFERENCE) or name in self.stored:
            raise ValueError(
                f"weights called {name!r} exist already: choose another name or copy(src, {name!r})"
            )
        self.stored[name] = {key: value.detach().clone() for key, value in values.items()}

    @torch.no_grad()
    def blend(self, dst: str, source: Mapping[str, Tensor], decay: float) -> None:
        """dst <- decay * dst + (1 - decay) * source; an exact copy for decay 0."""
        if dst == REFERENCE:
            raise ValueError(
                "the reference never changes: add(name, copy_of='reference') gives a copy that may"
            )
        for key, value in self.values(dst).items():
            other = source[key].to(value.device)
            if value.shape != other.shape:
                raise ValueError(
                    f"weights {dst!r} and their source differ in shape at {key}: add a new copy instead"
                )
            if decay == 0.0:
                value.copy_(other)
            else:
                value.lerp_(other, 1.0 - decay)

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """The parameters hold the values called `name` inside the block."""
        outermost = self._outside is None
        if name == POLICY and outermost:
            yield
            return
        before = {key: p.data for key, p in self.parameters.items()}
        values = self.values(name)
        if outermost:
            self._outside = before
        self._show(values)
        try:
            yield
        finally:
            self._show(before)
            if outermost:
                self._outside = None

    def _show(self, values: Mapping[str, Tensor]) -> None:
        for key, parameter in self.parameters.items():
            parameter.data = values[key]

    def state_dict(self) -> Values:
        """The policy and the stored copies, keyed `<name>/<parameter>`; safetensors can hold it."""
        names = (POLICY, *self.stored)
        return {f"{name}/{key}": value for name in names for key, value in self.values(name).items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` gave: the policy in place, the copies anew."""
        found: dict[str, Values] = {}
        for key, value in state.items():
            name, _, parameter = key.partition("/")
            found.setdefault(name, {})[parameter] = value
        if POLICY not in found and self.parameters:
            raise ValueError("the saved weights hold no policy: give what Weights.state_dict() returned")
        mine = self.values(POLICY)
        for name, values in found.items():
            odd = sorted(set(values) ^ set(mine))
            if name == POLICY:
                odd += [key for key in mine if key in values and values[key].shape != mine[key].shape]
            if odd:
                raise ValueError(
                    f"the saved weights {name!r} do not fit this network at {len(odd)} parameters (first: {odd[0]}): "
                    "load the policy with the rank, targets and base of the run that saved them"
                )
        policy = found.pop(POLICY, {})
        for key, value in mine.items():
            value.copy_(policy[key])
        self.stored = {
            name: {k: v.to(mine[k]).clone() for k, v in values.items()} for name, values in found.items()
        }


class FullWeights:
    """Every parameter of the network. `reference=False` saves the memory of the frozen original.

    With `trainable=False` nothing is trained and nothing is copied: policy and reference are the same network.
    """

    def __init__(
        self, network: Any, *, component: str = "transformer", trainable: bool = True, reference: bool = True
    ) -> None:
        self.network, self.component = network, component
        network.requires_grad_(trainable)
        parameters = dict(network.named_parameters()) if trainable else {}
        original = {key: p.detach().clone() for key, p in parameters.items()}
        self.copies = Copies(parameters, {REFERENCE: original} if reference else None)

    @property
    def names(self) -> tuple[str, ...]:
        return self.copies.names

    def trainable(self) -> list[nn.Parameter]:
        return list(self.copies.parameters.values())

    def using(self, name: str) -> AbstractContextManager[None]:
        return self.copies.using(name)

    def add(self, name: str, copy_of: str = POLICY) -> None:
        self.copies.add(name, self.copies.values(copy_of))

    def add_lora(self, name: str, folder: str | Path) -> None:
        self.copies.add(name, self._merged(folder))

    def load_lora(self, folder: str | Path) -> None:
        self.copies.blend(POLICY, self._merged(folder), decay=0.0)

    def _merged(self, folder: str | Path) -> Values:
        """The reference plus alpha / r * B @ A of a saved LoRA."""
        values, file = dict(self.copies.values(REFERENCE)), read_lora(folder, self.component)
        for module, (down, up) in file.pairs().items():
            key = f"{module}.weight"
            if key not in values:
                raise ValueError(
                    f"the LoRA in {file.path} targets {module}, which this network lacks: other base?"
                )
            offset = file.scaling * up.float().flatten(1) @ down.float().flatten(1)
            values[key] = values[key] + offset.view_as(values[key]).to(values[key])
        return values

    def copy(self, src: str, dst: str) -> None:
        self.copies.blend(dst, self.copies.values(src), decay=0.0)

    def blend(self, dst: str, src: str, decay: float) -> None:
        self.copies.blend(dst, self.copies.values(src), decay)

    def merge_negative(
        self, name: str, *, offset: str, preference: str = POLICY, alpha: float = 1.0, beta: float = 1.0
    ) -> None:
        base, liked, turned = (self.copies.values(n) for n in (REFERENCE, preference, offset))
        merged = {k: base[k] + alpha * (liked[k] - base[k]) + beta * (turned[k] - base[k]) for k in base}
        self.copies.add(name, merged)

    def state_dict(self) -> Values:
        return self.copies.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.copies.load_state_dict(state)

    def save_lora(self, folder: str | Path, name: str = POLICY) -> None:
        raise ValueError(
            "this policy trains all its weights and has no LoRA: use save_full, or model.weights=lora"
        )

    def save_full(self, folder: str | Path, name: str = POLICY) -> None:
        with self.using(name):
            self.network.save_pretrained(str(folder), safe_serialization=True)
