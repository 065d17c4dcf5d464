"""What the verbs `generate`, `score` and `evaluate` can be told: strict sections, like recipes. Imports no torch.

A verb's settings come from a YAML file (`--config`), then its options, then `key=value` words, each over the one
before: `mmalign score --config score.yaml --reward shapes-verifier batch_size=8`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from mmalign.composition import Reward, spelled_out
from mmalign.config import Section
from mmalign.strict import apply_overrides, read_yaml, validate

Schema = TypeVar("Schema", bound=Section)
Output = Annotated[str, Field(description="-o/--output")]
Dtype = Literal["float32", "float16", "bfloat16"]


class Sampling(Section):
    """How pictures are drawn: the same prompt and seed give the same noise to every generator."""

    num_steps: PositiveInt = 20
    guidance: Annotated[float, Field(ge=0.0)] = 1.0
    seeds_per_prompt: PositiveInt = 1
    seed: NonNegativeInt = 0
    batch_size: PositiveInt = 32
    size: tuple[PositiveInt, PositiveInt] | None = None
    num_frames: PositiveInt | None = None
    fps: PositiveFloat = 8.0


class Generator(Section):
    """A generator: `shapes-flow`, `shapes-epsilon`, a diffusers folder or a hub id; with a LoRA, or with a LoRA
    trained by NPO as the negative branch of guidance.
    """

    name: str = ""
    model: str = "shapes-flow"
    lora: str | None = None
    negative: str | None = None
    family: str = "auto"
    dtype: Dtype = "float32"
    attention: str = "sdpa"

    @property
    def label(self) -> str:
        """The name, or what tells it from others."""
        return self.name or self.lora or self.model


class Generate(Section):
    """Prompts times seeds through one generator, into a folder of media with `manifest.jsonl`."""

    generator: Generator = Generator()
    prompts: str
    num_prompts: PositiveInt | None = None
    sampling: Sampling = Sampling()
    output: Output
    device: str = "auto"


class Score(Section):
    """Files times rewards, into a folder of JSONL shards, a summary and a gallery.

    `fps` and `max_frames` thin videos; rewards that learned from files (VideoReward, VEFX-Reward, those trained on
    files) choose the frames themselves.
    """

    input: str
    rewards: Annotated[tuple[Reward, ...], Field(min_length=1)]
    output: Output
    prompt: str | None = None
    batch_size: PositiveInt = 16
    workers: NonNegativeInt = 2
    fps: PositiveFloat | None = None
    max_frames: PositiveInt | None = 16
    gallery: NonNegativeInt = 48


class Serve(Section):
    """Rewards over HTTP, and what a request may hold."""

    rewards: Annotated[tuple[Reward, ...], Field(min_length=1)]
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, lt=2**16)] = 8100
    token: str | None = None
    max_batch: PositiveInt = 32
    max_wait_ms: Annotated[float, Field(ge=0.0)] = 10.0
    max_waiting: PositiveInt = 256
    max_media: PositiveInt = 256
    max_bytes: PositiveInt = 2**26
    max_pixels: PositiveInt = 2**24
    max_requests: PositiveInt = 64
    timeout: PositiveFloat = 60.0


class EvaluateGenerator(Section):
    """Several generators on the same held-out prompts and seeds, judged by rewards; the first is the baseline."""

    generators: Annotated[tuple[Generator, ...], Field(min_length=1)]
    prompts: str = "shapes:heldout"
    num_prompts: PositiveInt = 64
    sampling: Sampling = Sampling(seeds_per_prompt=2)
    rewards: Annotated[tuple[Reward, ...], Field(min_length=1)] = (Reward(name="shapes-verifier"),)
    output: Output
    device: str = "auto"


class EvaluateReward(Section):
    """A reward model against preference pairs (`mmalign.pref/1` JSONL), accuracy by prompt.

    `conformal`: the error allowed among the pairs it judges, with certainty 1 - `delta`; it abstains from the others.
    `fps` and `max_frames` as in `Score`.
    """

    reward: Reward
    pairs: str
    dimension: str = "overall"
    output: Output
    conformal: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    delta: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    batch_size: PositiveInt = 32
    fps: PositiveFloat | None = None
    max_frames: PositiveInt | None = 16


class CheckReward(Section):
    """How far one reward can be trusted: `samples` (files) or a built-in `world`, or what a `generator` draws.

    `rewards` are further judges of an ensemble with it; `pairs` labelled comparisons; `gold` who knows better.
    """

    reward: Reward
    samples: str | None = None
    world: Literal["shapes", "shapes-edits", "shapes-videos"] | None = None
    generator: Generator | None = None
    prompts: str = "shapes:heldout"
    sampling: Sampling = Sampling(seeds_per_prompt=16)
    pairs: str | None = None
    dimension: str = "overall"
    gold: Reward | None = None
    rewards: tuple[Reward, ...] = ()
    num_prompts: PositiveInt = 48
    num_candidates: PositiveInt = 8
    num_samples: PositiveInt = 512
    uwo_weight: NonNegativeFloat = 1.0
    batch_size: PositiveInt = 16
    fps: PositiveFloat | None = None
    max_frames: PositiveInt | None = 16
    seed: NonNegativeInt = 0
    device: str = "auto"
    output: Output


def gather(
    schema: type[Schema],
    config: str | None,
    options: Mapping[str, Any],
    overrides: Sequence[str],
    *,
    verb: str,
) -> Schema:
    """The settings of a verb; `options` that are None (or empty) were not given and say nothing."""
    if config is not None and not Path(config).is_file():
        raise ValueError(f"--config {config}: no such file")
    data = read_yaml(config) if config is not None else {}
    for key, value in options.items():
        if value is not None and value not in ([], ()):
            _place(data, key.split("."), value)
    data = spelled_out(apply_overrides(data, overrides))
    return validate(data, schema, origin=verb)


def named_generators(models: Sequence[str], loras: Sequence[str]) -> list[dict[str, str]]:
    """`--model name=path` and `--lora name=path` as generators: a LoRA goes on the first model.

    >>> named_generators([], ["mine=runs/lora"])
    [{'name': 'base', 'model': 'shapes-flow'}, {'name': 'mine', 'model': 'shapes-flow', 'lora': 'runs/lora'}]
    """
    made = [{"name": name, "model": path} for name, path in map(_named, models or ("base=shapes-flow",))]
    made += [{"name": name, "model": made[0]["model"], "lora": path} for name, path in map(_named, loras)]
    names = [item["name"] for item in made]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"two generators are called '{name}': name them, for example --lora first={name}"
            )
    return made


def _named(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    return (name, path) if equals else (text, text)


def _place(data: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        data = data.setdefault(key, {})
    data[keys[-1]] = value
