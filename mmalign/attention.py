"""Choose the attention backend of a network, prove it with a real call, and report what works here.

Shape legend: `B` batch, `L` tokens, `H` heads, `D` head size; query, key and value are (B, L, H, D).

Names are those a recipe's `model.attention` takes. Newer diffusers networks (FLUX, Wan, Qwen-Image)
dispatch every call by name; older ones (SD 1.5, SDXL, SD3) have processor classes instead, which exist for
SDPA and for xformers only.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

# our name -> the name in diffusers
BACKENDS = {
    "sdpa": "native",
    "native": "native",
    "math": "_native_math",
    "efficient": "_native_efficient",
    "cudnn": "_native_cudnn",
    "torch-flash": "_native_flash",
    "xformers": "xformers",
    "flash": "flash",
    "flash3": "_flash_3",
    "sage": "sage",
    "flex": "flex",
}
ON_CPU = frozenset({"sdpa", "native", "math"})
PACKAGES = {
    "xformers": "xformers",
    "flash": "flash_attn",
    "flash3": "flash_attn_interface",
    "sage": "sageattention",
}
TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}


@dataclass(frozen=True)
class Proof:
    """A backend's answer to one small attention call, forward and backward, next to plain matrix
    arithmetic.
    """

    backend: str
    device: str
    dtype: str
    max_difference: float
    max_gradient_difference: float
    seconds: float


def set_attention(network: nn.Module, backend: str) -> dict[str, int]:
    """Switch every attention layer of a diffusers network; returns how many layers run which processor.

    A network that cannot switch all its layers is an error, never a silent mixture.
    """
    require(backend, _device_of(network))
    layers = list(_attention_layers(network))
    if not layers:
        raise ValueError(f"{type(network).__name__} has no attention layer that diffusers can switch")
    dispatching = [layer for layer in layers if hasattr(layer.processor, "_attention_backend")]
    fixed = [layer for layer in layers if not hasattr(layer.processor, "_attention_backend")]
    if fixed and BACKENDS[backend] not in ("native", "xformers"):
        kinds = ", ".join(sorted({type(layer.processor).__name__ for layer in fixed}))
        raise ValueError(
            f"attention '{backend}' cannot serve {type(network).__name__}: its layers run {kinds}, which diffusers "
            "has for sdpa and xformers only; use attention: sdpa, or xformers on a GPU machine"
        )
    if dispatching:
        network.set_attention_backend(BACKENDS[backend])  # type: ignore[operator]
    for layer in fixed:
        is_xformers = "XFormers" in type(layer.processor).__name__
        if is_xformers != (backend == "xformers"):
            _switch_fixed(layer, backend)
    return dict(Counter(type(layer.processor).__name__ for layer in layers))


def prove(backend: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Proof:
    """Run a small attention call on the device at hand; ValueError with the mend if it fails or is wrong."""
    device = torch.device(device)
    require(backend, device)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, 16, 2, 64, generator=generator).to(device, dtype) for _ in range(4)]
    started = time.perf_counter()
    try:
        ours = _forward_backward(inputs, lambda q, k, v: _dispatch(q, k, v, BACKENDS[backend]))
    except (RuntimeError, ValueError, TypeError, ImportError, AttributeError, NotImplementedError) as error:
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise ValueError(
            f"attention '{backend}' does not work on {device.type} in {_name(dtype)} ({reason}); use attention: sdpa"
        ) from error
    seconds = time.perf_counter() - started
    exact = _forward_backward([x.double() for x in inputs], _math_attention)
    gaps = [float((a.double() - b).abs().max()) for a, b in zip(ours, exact, strict=True)]
    limit = TOLERANCE.get(dtype, 1e-4)
    if not max(gaps) <= limit:
        raise ValueError(
            f"attention '{backend}' on {device.type} in {_name(dtype)} is off by {max(gaps):.2g} (limit {limit:.2g}) "
            "against plain arithmetic; use attention: sdpa"
        )
    return Proof(backend, device.type, _name(dtype), gaps[0], max(gaps[1:]), seconds)


def require(backend: str, device: torch.device) -> None:
    """ValueError, with what to do, for a backend that is unknown, not installed or not made for the device."""
    if backend not in BACKENDS:
        raise ValueError(f"attention backend '{backend}' is unknown: use {', '.join(BACKENDS)}")
    if device.type != "cuda" and backend not in ON_CPU:
        raise ValueError(
            f"{backend} has no {device.type.upper()} kernel; use attention: sdpa, or run on a GPU machine"
        )
    package = PACKAGES.get(backend)
    if package is not None and find_spec(package) is None:
        raise ValueError(
            f"attention '{backend}' needs the package {package}: install it, or use attention: sdpa"
        )


def report() -> dict[str, Any]:
    """What `mmalign env` shows: every backend proven on this machine, or the reason why not."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    backends: dict[str, dict[str, Any]] = {}
    for name in BACKENDS:
        try:
            proof = prove(name, device, dtype)
        except ValueError as error:
            backends[name] = {"works": False, "reason": str(error)}
        else:
            backends[name] = {"works": True, "max_difference": proof.max_difference, "seconds": proof.seconds}
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {
        "device": hardware,
        "dtype": _name(dtype),
        "default": "sdpa",
        "packages": {name: _version(package) for name, package in {"torch": "torch", **PACKAGES}.items()},
        "backends": backends,
    }


def _attention_layers(network: nn.Module) -> Iterator[Any]:
    from diffusers.models.attention import AttentionModuleMixin
    from diffusers.models.attention_processor import Attention, MochiAttention

    for module in network.modules():
        if (
            isinstance(module, Attention | MochiAttention | AttentionModuleMixin)
            and module.processor is not None
        ):
            yield module


def _switch_fixed(layer: Any, backend: str) -> None:
    """Exchange the processor class of a layer that does not dispatch by name."""
    from diffusers.models.attention_processor import JointAttnProcessor2_0, XFormersJointAttnProcessor

    joint = isinstance(layer.processor, JointAttnProcessor2_0 | XFormersJointAttnProcessor)
    if backend == "xformers":
        layer.set_use_memory_efficient_attention_xformers(True)
    elif joint:  # diffusers would put the plain processor here, which drops the text tokens
        layer.set_processor(JointAttnProcessor2_0())
    else:
        layer.set_use_memory_efficient_attention_xformers(False)


def _dispatch(query: Tensor, key: Tensor, value: Tensor, backend: str) -> Tensor:
    from diffusers.models.attention_dispatch import (
        AttentionBackendName,
        _check_attention_backend_requirements,
        dispatch_attention_fn,
    )

    name = AttentionBackendName(backend)
    _check_attention_backend_requirements(name)
    result: Tensor = dispatch_attention_fn(query, key, value, backend=name)
    return result


def _math_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = torch.einsum("blhd,bmhd->bhlm", query, key) / query.shape[-1] ** 0.5
    return torch.einsum("bhlm,bmhd->blhd", scores.softmax(dim=-1), value)


def _forward_backward(inputs: list[Tensor], attend: Any) -> list[Tensor]:
    """The output and the gradients of query, key and value under a fixed output gradient."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs[:3]]
    out = attend(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, inputs[3])]


def _device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
