"""Published weights: find the file, read it without running any code in it, and load it whole or not at all.

A path may be a file, a folder, or the id of a repository on the Hugging Face hub (`owner/name`), of which only the
files that are needed are downloaded. A module is loaded strictly: a weight that is missing, left over or of another
shape is an error that names it, because a partly random model still gives plausible scores.
"""

from __future__ import annotations

import pickle
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

import torch
from torch import Tensor, nn

from mmalign.hub import fetch, is_id

ALIGNMENT = 64
"""Where PyTorch puts what it allocates, in bytes."""


def locate(path: str | Path, patterns: Sequence[str]) -> Path:
    """An existing file or folder as it is; of a hub id the local folder with the files that match `patterns`.

    Raises ValueError for what is neither, and when the hub cannot be reached.
    """
    if not str(path):
        raise ValueError("this reward needs its weights: give option path, a file, a folder or a hub id")
    here = Path(path)
    if here.exists():
        return here
    if not is_id(path):
        raise ValueError(f"{path} is no file or folder, and no hub id of the form owner/name")
    return fetch(str(path), patterns)


def find_file(place: Path, patterns: Sequence[str]) -> Path:
    """A file as it is; in a folder the first file (by pattern, then by name) that matches."""
    if place.is_file():
        return place
    names = sorted(item.name for item in place.iterdir() if item.is_file())
    for pattern in patterns:
        for name in names:
            if fnmatch(name, pattern):
                return place / name
    raise ValueError(
        f"{place} holds none of {', '.join(patterns)}: it has {', '.join(names[:8]) or 'no files'}"
    )


def read_tensors(file: Path, *, inside: str | None = None) -> dict[str, Tensor]:
    """Name -> tensor of a safetensors or PyTorch file; `inside` is the key that the tensors lie under."""
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{file} is not a plain file of tensors ({str(error).splitlines()[0][:120]}): download it again, or have "
            "whoever made it save a state dict"
        ) from error
    if inside is not None:
        if not isinstance(found, Mapping) or inside not in found:
            raise ValueError(f"{file} has no entry '{inside}': this is another kind of checkpoint")
        found = found[inside]
    if not isinstance(found, Mapping) or not all(isinstance(item, Tensor) for item in found.values()):
        raise ValueError(f"{file} holds more than named tensors: this is another kind of checkpoint")
    return dict(found)


@torch.no_grad()
def aligned(module: nn.Module) -> None:
    """Copy weights that a file left at odd addresses: there some kernels sum in another order, to other last bits."""
    for parameter in module.parameters():
        if parameter.data_ptr() % ALIGNMENT:
            parameter.data = parameter.data.clone()


def load_strictly(
    module: nn.Module, tensors: Mapping[str, Tensor], *, source: str, unused: Collection[str] = ()
) -> None:
    """Put `tensors` in place of all weights of `module`; those that match a pattern of `unused` are left aside.

    The module may lie on the meta device: its weights are replaced, not written to.
    """
    given = {name: item for name, item in tensors.items() if not any(fnmatch(name, rule) for rule in unused)}
    wanted = module.state_dict()
    problems = {
        "missing": sorted(set(wanted) - set(given)),
        "not known": sorted(set(given) - set(wanted)),
        "of another shape": sorted(
            name for name in set(wanted) & set(given) if wanted[name].shape != given[name].shape
        ),
    }
    told = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in problems.items()
        if names
    ]
    if told:
        raise ValueError(f"{source}: the weights do not fit the model: {'; '.join(told)}")
    module.load_state_dict(given, assign=True)
