"""What the loop costs beside the network: iterations of GRPO and NFT against the bare calls they are made of.

    python benchmarks/overhead.py --methods grpo nft --repeats 7

The shipped recipe `<method>/shapes-flow` trains as it always does. Hooks write down every call of the denoising
network, the autoencoder and the text encoders with the tensors it was given. Right after each iteration the very
same calls are made again in bare loops: rollouts, old and reference without gradient, training forwards with
their backwards, decoding, encoding. The ratio is (iteration - reward) / bare calls; the reward's own time stands
apart, for it is the user's. Iterations and replays take turns, and the median over the repetitions decides, in
wall-clock time and in CPU time of the process (which neighbours on a shared machine touch less).

Shape legend: none of its own; calls are replayed with the shapes that the recipe makes.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmalign.config import load_recipe
from mmalign.train.alignment import Alignment
from pipelines.train import compose

METHODS = ("grpo", "nft")
TARGET = 1.15
TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


@dataclass(frozen=True)
class Clock:
    """Seconds on the wall and of this process's CPUs."""

    wall: float = 0.0
    cpu: float = 0.0

    @classmethod
    def now(cls) -> Clock:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: Clock) -> Clock:
        return Clock(self.wall - other.wall, self.cpu - other.cpu)

    def __add__(self, other: Clock) -> Clock:
        return Clock(self.wall + other.wall, self.cpu + other.cpu)


@dataclass(frozen=True)
class Call:
    """One call: what was called, under which weights, with which arguments, with or without gradient."""

    run: Callable[..., Any]
    kind: str
    weights: str
    gradient: bool
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass
class Recorder:
    """Writes down the calls of an iteration, and makes them again."""

    task: Alignment
    calls: list[Call] = field(default_factory=list)
    weights: list[str] = field(default_factory=lambda: ["policy"])
    listening: bool = True

    def __post_init__(self) -> None:
        pipeline, policy = self.task.policy.pipeline, self.task.policy
        parts = [(name, getattr(pipeline, name, None)) for name in TEXT_ENCODERS]
        for name, module in [("network", policy.network), *parts]:
            if module is not None:
                module.register_forward_pre_hook(functools.partial(self._heard, name), with_kwargs=True)
        decode = pipeline.vae.decode
        pipeline.vae.decode = functools.partial(self._decode, decode)
        using = policy.weights.using
        policy.weights.using = functools.partial(self._using, using)  # type: ignore[method-assign]

    def _heard(self, name: str, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        self._write(module, name, args, kwargs)

    def _decode(self, decode: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._write(decode, "decode", args, kwargs)
        return decode(*args, **kwargs)

    @contextmanager
    def _using(self, using: Any, name: str) -> Iterator[None]:
        self.weights.append(name)
        try:
            with using(name):
                yield
        finally:
            self.weights.pop()

    def _write(self, run: Callable[..., Any], name: str, args: Any, kwargs: Any) -> None:
        if not self.listening:
            return
        gradient = torch.is_grad_enabled() and name == "network"
        kind = name if name in ("network", "decode") else "encode text"
        if kind == "network":
            kind = "training forward and backward" if gradient else "forward"
        self.calls.append(Call(run, kind, self.weights[-1], gradient, args, dict(kwargs)))

    def take(self) -> list[Call]:
        """The calls since the last time."""
        calls, self.calls = self.calls, []
        return calls

    def replay(self, calls: Sequence[Call]) -> dict[str, Clock]:
        """The calls alone, kind by kind under each one's weights; seconds by kind."""
        spent: dict[str, Clock] = {}
        self.listening = False
        for kind, weights in dict.fromkeys((call.kind, call.weights) for call in calls):
            mine = [call for call in calls if (call.kind, call.weights) == (kind, weights)]
            with self.task.policy.weights.using(weights):
                started = Clock.now()
                for call in mine:
                    bare(call)
                name = kind if kind in ("decode", "encode text") else f"{kind}, {weights}"
                spent[name] = spent.get(name, Clock()) + (Clock.now() - started)
        self.listening = True
        return spent


def bare(call: Call) -> None:
    """The call, and its backward if it had gradient."""
    with torch.set_grad_enabled(call.gradient):
        made = call.run(*call.args, **call.kwargs)
    if call.gradient:
        prediction: Tensor = made[0]
        prediction.backward(torch.ones_like(prediction))


@dataclass
class Stopwatch:
    """Times iterations from the `watch` calls of the loop; between two of them the bare calls are replayed."""

    warmup: int
    recorder: Recorder | None = None
    started: Clock = field(default_factory=Clock)
    reward: Clock = field(default_factory=Clock)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def judged(self, reward: Callable[..., Any], samples: Any) -> Any:
        """The reward, its time kept apart."""
        before = Clock.now()
        scores = reward(samples)
        self.reward = self.reward + (Clock.now() - before)
        return scores

    def watch(self, iteration: int, row: Mapping[str, float]) -> None:
        whole = Clock.now() - self.started
        assert self.recorder is not None
        calls = self.recorder.take()
        if iteration > self.warmup:
            spent = self.recorder.replay(calls)
            counted = Counter(call.kind for call in calls)
            self.rows.append({"whole": whole, "reward": self.reward, "bare": spent, "calls": counted})
        self.reward = Clock()
        self.started = Clock.now()


def measure(method: str, options: argparse.Namespace) -> dict[str, Any]:
    """One method: `repeats` iterations, each with its replay."""
    watch = Stopwatch(options.warmup)
    with tempfile.TemporaryDirectory() as folder:
        recipe = load_recipe(
            f"{method}/shapes-flow",
            [
                f"output={folder}",
                f"budget.iterations={options.warmup + options.repeats}",
                "evaluation.every=null",
                "trackers=[]",
                *options.set,
            ],
        )
        trainer, task = compose(recipe, watch=watch.watch)
        watch.recorder = Recorder(task)
        assert task.reward is not None
        task.reward = functools.partial(watch.judged, task.reward)
        watch.started = Clock.now()
        trainer.train()
    samples = recipe.rollout.group_size * recipe.rollout.groups_per_iteration
    return {"recipe": f"{method}/shapes-flow", "samples": samples, **summary(watch.rows)}


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians over the repetitions; the ratio is the median of the ratios of each iteration to its own replay."""
    result: dict[str, Any] = {"repeats": len(rows), "calls": dict(rows[-1]["calls"])}
    for clock in ("wall", "cpu"):
        table = [
            {
                "iteration": getattr(row["whole"], clock),
                "reward": getattr(row["reward"], clock),
                "bare": sum(getattr(part, clock) for part in row["bare"].values()),
            }
            for row in rows
        ]
        ratios = [(line["iteration"] - line["reward"]) / line["bare"] for line in table]
        result[clock] = {
            "ratio": round(statistics.median(ratios), 4),
            "ratios": [round(ratio, 4) for ratio in ratios],
            **{f"{key}_seconds": median([line[key] for line in table]) for key in table[0]},
        }
    names = dict.fromkeys(name for row in rows for name in row["bare"])
    result["bare_wall_seconds"] = {
        name: median([row["bare"][name].wall for row in rows if name in row["bare"]]) for name in names
    }
    return result


def median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 4)


def machine() -> dict[str, Any]:
    """Where this was measured."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {
        "device": device,
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def processor() -> str:
    """The processor's name where the system tells it, otherwise its kind."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--repeats", type=int, default=7, help="measured iterations")
    parser.add_argument("--warmup", type=int, default=1, help="iterations before them")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", default="benchmarks/results/overhead.json")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further recipe settings")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    result = {
        "command": "python benchmarks/overhead.py",
        "target": TARGET,
        "machine": machine(),
        "methods": {method: measure(method, options) for method in options.methods},
    }
    path = Path(options.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for method, found in result["methods"].items():  # type: ignore[attr-defined]
        wall, cpu = found["wall"]["ratio"], found["cpu"]["ratio"]
        print(f"{method}: {wall:.3f}x the bare calls (CPU time {cpu:.3f}x), target at most {TARGET}x")


if __name__ == "__main__":
    main()
