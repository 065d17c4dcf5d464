"""Pretraining of the bundled generators from drawn pictures: what alignment starts from.

These loops come before the one training loop of `mmalign.train`: they make a base out of random
weights (autoencoder, text encoders and denoiser), which no alignment recipe does. A run can be
killed and started again; it goes on from its last checkpoint.

B pictures, latents z (B, C, 8, 8), L tokens of a prompt.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from mmalign.shapes import architectures
from mmalign.shapes.drawing import render
from mmalign.shapes.prompts import sample_prompts, vocabulary
from pipelines.generator_card import write_card
from pipelines.pretrain_losses import epsilon_loss, flow_loss

Kind = Literal["flow", "epsilon"]


@dataclass(frozen=True)
class Pretraining:
    """What one pretraining run costs: batches of `batch_size` drawn pictures in `cycles`.

    Every cycle lets the learning rate fall along a cosine and starts again from its peak, so that the
    weights at the end of each are a usable model (Loshchilov and Hutter 2017, arXiv 1608.03983, eq. 5).
    """

    cycles: tuple[int, ...]
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup: int = 200
    pool_size: int = 60_000
    ema: float = 0.998
    unconditional: float = 0.1
    checkpoint_every: int = 200
    seed: int = 0

    @property
    def steps(self) -> int:
        return sum(self.cycles)

    def rate(self, step: int) -> float:
        """Learning rate of `step`: linear warm-up, then a cosine to a hundredth of the peak in each cycle."""
        start = 0
        for length in self.cycles:
            if step < start + length:
                break
            start += length
        cosine = 0.505 + 0.495 * math.cos(math.pi * (step - start) / length)
        return self.learning_rate * min(1.0, (step + 1) / self.warmup) * cosine


AUTOENCODER = Pretraining(
    cycles=(1100,), batch_size=64, learning_rate=2e-3, pool_size=40_000, warmup=50, checkpoint_every=50
)
GENERATORS: dict[Kind, Pretraining] = {
    "flow": Pretraining(cycles=(4000, 7500)),
    "epsilon": Pretraining(cycles=(2200, 3600)),
}


@dataclass
class Run:
    """Modules in training with optimiser, schedule, averaged weights and the step reached."""

    modules: nn.ModuleList
    plan: Pretraining
    folder: Path
    step: int = 0
    seconds: float = 0.0
    optimizer: torch.optim.AdamW = field(init=False)
    ema: EMAModel = field(init=False)

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW(
            self.modules.parameters(), lr=self.plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
        )
        self.ema = EMAModel(self.modules.parameters(), decay=self.plan.ema)
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, weights_only=True)
            self.modules.load_state_dict(state["modules"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.ema.load_state_dict(state["ema"])
            self.step, self.seconds = state["step"], state["seconds"]

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def save(self) -> None:
        """Write everything a killed run needs to go on, at once or not at all."""
        state = {
            "modules": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def update(self, loss: Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate(self.step)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self.optimizer.step()
        self.ema.step(self.modules.parameters())
        self.step += 1

    def steps(self, name: str) -> Iterator[torch.Generator]:
        """One seeded generator per step left, with a progress bar and checkpoints."""
        bar = tqdm(total=self.plan.steps, initial=self.step, desc=name, unit="batch", smoothing=0.05)
        started = time.monotonic() - self.seconds
        while self.step < self.plan.steps:
            yield torch.Generator().manual_seed(self.plan.seed * 1_000_003 + self.step)
            bar.update()
            self.seconds = time.monotonic() - started
            if self.step % self.plan.checkpoint_every == 0 or self.step == self.plan.steps:
                self.save()
        bar.close()


def draw_pool(plan: Pretraining) -> tuple[list[str], Tensor]:
    """Prompts of the training split and a true picture of each, uint8 (N, 3, 32, 32)."""
    asked = sample_prompts("train", plan.pool_size, seed=plan.seed)
    chunks = [
        (render(asked[i : i + 2000], seed=plan.seed + i) * 255).round().byte()
        for i in tqdm(range(0, len(asked), 2000), desc="drawing pictures", unit="x2000")
    ]
    return asked, torch.cat(chunks)


def train_autoencoder(folder: Path, plan: Pretraining = AUTOENCODER) -> AutoencoderKL:
    """Train the shared autoencoder and save it to `folder`; latents come out with unit variance."""
    torch.manual_seed(plan.seed)
    vae = architectures.build_autoencoder()
    run = Run(nn.ModuleList([vae]), plan, folder)
    _, pictures = draw_pool(plan)
    for generator in run.steps("autoencoder"):
        index = torch.randint(len(pictures), (plan.batch_size,), generator=generator)
        target = pictures[index].float() / 127.5 - 1
        posterior = vae.encode(target).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        restored = vae.decode(posterior.mean + posterior.std * noise).sample
        error = F.l1_loss(restored, target) + F.mse_loss(restored, target)
        run.update(error + 1e-5 * posterior.kl().mean() / posterior.mean[0].numel())
    run.ema.copy_to(vae.parameters())
    vae.eval()
    with torch.no_grad():
        sample = vae.encode(pictures[:2000].float() / 127.5 - 1).latent_dist.mean
    vae.register_to_config(scaling_factor=1 / sample.std().item(), shift_factor=sample.mean().item())
    vae.save_pretrained(folder)
    return vae


@torch.no_grad()
def encode_pool(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Normalised latents (N, C, 8, 8) of uint8 pictures."""
    parts = [vae.encode(chunk.float() / 127.5 - 1).latent_dist.mean for chunk in pictures.split(500)]
    return (torch.cat(parts) - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor


def train_generator(
    kind: Kind, vae_folder: Path, folder: Path, plan: Pretraining | None = None
) -> DiffusionPipeline:
    """Train denoiser and text encoders on the latents of drawn pictures; save the pipeline to `folder`."""
    plan = plan or GENERATORS[kind]
    torch.manual_seed(plan.seed)
    vae = AutoencoderKL.from_pretrained(vae_folder).eval().requires_grad_(False)
    if kind == "flow":
        pipe = architectures.build_flow_pipeline(vae, vocabulary())
        trained, loss = [pipe.transformer, pipe.text_encoder, pipe.text_encoder_2], flow_loss
    else:
        vae.register_to_config(shift_factor=None)  # the stock StableDiffusionPipeline decodes without it
        pipe = architectures.build_epsilon_pipeline(vae, vocabulary())
        trained, loss = [pipe.unet, pipe.text_encoder], epsilon_loss
    run = Run(nn.ModuleList(trained).train(), plan, folder)
    asked, pictures = draw_pool(plan)
    latents = encode_pool(vae, pictures)
    tokens = pipe.tokenizer(
        [*asked, ""], padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    for generator in run.steps(kind):
        index = torch.randint(len(latents), (plan.batch_size,), generator=generator)
        dropped = torch.rand(plan.batch_size, generator=generator) < plan.unconditional
        chosen = tokens[torch.where(dropped, len(latents), index)]
        run.update(loss(pipe, latents[index], chosen, generator))
        if run.step % plan.checkpoint_every == 0:
            save_averaged(run, pipe, folder)
    save_averaged(run, pipe, folder)
    facts = asdict(plan) | {"steps": plan.steps, "minutes": run.seconds / 60}
    write_card(folder, kind, facts | {"autoencoder": autoencoder_facts(vae_folder)})
    return pipe


def autoencoder_facts(folder: Path) -> str:
    """What training the autoencoder in `folder` cost, in words."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    return f"{state['step']:,} batches of {AUTOENCODER.batch_size} in {state['seconds'] / 60:.0f} minutes"


def save_averaged(run: Run, pipe: DiffusionPipeline, folder: Path) -> None:
    """Save a half-precision copy of the pipeline with the averaged weights."""
    parameters = list(run.modules.parameters())
    run.ema.store(parameters)
    run.ema.copy_to(parameters)
    save_half(pipe, folder)
    run.ema.restore(parameters)


def save_half(pipe: DiffusionPipeline, folder: Path) -> None:
    """Save in half precision what loads in float32.

    transformers loads in the precision its config names, diffusers in float32: a text encoder that named
    float16 could not run beside its transformer after a plain `from_pretrained`.
    """
    deepcopy(pipe).to(torch.float16).save_pretrained(folder)
    for path in folder.glob("text_encoder*/config.json"):
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, "dtype": "float32"}, indent=2) + "\n")
    path = folder / "vae" / "config.json"
    config = json.loads(path.read_text())
    config.pop("_name_or_path", None)  # a folder of the machine that trained it
    path.write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    """`python -m pipelines.pretrain flow --output FOLDER`: the autoencoder too, where it is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["autoencoder", *GENERATORS])
    parser.add_argument("--output", type=Path, default=Path("runs/pretrain"), help="folder of folders")
    options = parser.parse_args()
    vae = options.output / "vae"
    if options.what == "autoencoder" or not (vae / "config.json").exists():
        train_autoencoder(vae)
    if options.what != "autoencoder":
        train_generator(options.what, vae, options.output / options.what)


if __name__ == "__main__":
    main()
