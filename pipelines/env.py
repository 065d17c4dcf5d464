"""The verb `env`: versions, devices, decoders and working attention backends, for a bug report."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib import metadata
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import mmalign
from mmalign import attention, video

PACKAGES = (
    *("torch", "torchvision", "diffusers", "transformers", "accelerate", "peft", "xformers", "datasets"),
    *("decord", "av", "pillow", "numpy", "scipy", "gradio", "pydantic", "open-clip-torch"),
)


def collect() -> dict[str, Any]:
    """Everything, as plain values."""
    found: dict[str, Any] = {
        "mmalign": mmalign.__version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "devices": devices(),
        "packages": {name: _version(name) for name in PACKAGES},
        "video decoder": "decord, PyAV where it cannot" if video.has_decord() else "PyAV",
    }
    proven = attention.report()
    found["attention"] = {name: _outcome(one) for name, one in proven["backends"].items()}
    return found


def devices() -> list[str]:
    """The accelerators torch sees."""
    if not torch.cuda.is_available():
        return ["no CUDA device: everything runs on the CPU"]
    names = []
    for k in range(torch.cuda.device_count()):
        one = torch.cuda.get_device_properties(k)
        half = "bfloat16" if torch.cuda.is_bf16_supported() else "float16 only"
        names.append(f"cuda:{k} {one.name}, {one.total_memory / 2**30:.0f} GiB, {half}")
    return names


def run(*, as_json: bool = False) -> None:
    """Print it."""
    found = collect()
    if as_json:
        print(json.dumps(found, indent=2, default=str))
        return
    table = Table(show_header=False)
    for key, value in found.items():
        if isinstance(value, dict):
            for name, detail in value.items():
                table.add_row(f"{key}: {name}", _show(detail))
        else:
            table.add_row(key, ", ".join(value) if isinstance(value, list) else str(value))
    Console().print(table)


def _show(detail: Any) -> str:
    return "not installed" if detail is None else str(detail)


def _outcome(proof: dict[str, Any]) -> str:
    """What a real call of an attention backend showed on this machine."""
    if proof["works"]:
        return f"works, differs from plain arithmetic by {proof['max_difference']:.0e}"
    return f"no: {proof['reason']}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
