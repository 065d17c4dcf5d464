"""A VLM that scores: a stock transformers model, and a head on the hidden states of its reward tokens.

The model is composed, not subclassed: `vlm` stays the stock class, whose weights any transformers code reads, and
the head lies beside it. Folder layout:

    config.json model.safetensors tokenizer.json tokenizer_config.json preprocessor_config.json   as any VLM
    reward_head.safetensors reward_config.json reward_video.json                                  the reward

Gradients reach the pixels of `Sample.media` tensors that ask for them.

Legend: B samples, S scores of a batch, D dimensions, W hidden width, R reward tokens.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from mmalign.types import Sample, Scores
from rewardmodels.backbones import backbone_of
from rewardmodels.batching import Prepared, score
from rewardmodels.calibrated import CalibratedReward
from rewardmodels.clips import Clip, VideoRule, read_sample
from rewardmodels.folders import (
    CONFIG,
    HEAD,
    PIXELS,
    VIDEO,
    check_placeholder,
    pixels_record,
    plain_state,
    quiet,
    read_pixels,
    read_video,
    templates_of,
)
from rewardmodels.golden import verify
from rewardmodels.heads import Readout, Seen, build_head
from rewardmodels.heads.gaussian import FusedHead
from rewardmodels.heads.readout import fused_log_std, overall_log_variance, overall_of
from rewardmodels.heads.scalar import CandidateHead
from rewardmodels.inputs import InputBuilder, Template, VlmInputs
from rewardmodels.settings import RewardSettings
from rewardmodels.towers import speed_up


class VlmReward(CalibratedReward):
    """A hidden-state reward model; call it with `samples=`, or `raw(inputs)` in training.

    `rule` is the pixel rule of the backbone (`rewardmodels.backbones`), `video` says how videos are read in time, and
    `templates` stand in for those that the settings name.
    """

    settings: RewardSettings

    def __init__(
        self, vlm: PreTrainedModel, head: nn.Module, tokenizer: PreTrainedTokenizerBase, rule: Any,
        settings: RewardSettings, *, batch_size: int = 64, video: VideoRule | None = None,
        templates: Sequence[Template] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.vlm, self.head, self.settings, self.batch_size = vlm, head, settings, batch_size
        self.report: object = None
        """What a reader of published checkpoints loaded (`rewardmodels.checkpoints.assemble.LoadReport`)."""
        backbone = backbone_of(vlm.config.model_type)
        self.builders = [
            InputBuilder(
                tokenizer, rule, template, settings.positions, settings.max_prompt_tokens, backbone,
                video or VideoRule(),
            )
            for template in templates or templates_of(settings)
        ]  # fmt: skip
        check_placeholder(vlm, self.builder)
        speed_up(vlm)

    @property
    def builder(self) -> InputBuilder:
        """The builder of the first, mostly the only, template."""
        return self.builders[0]

    @property
    def reads_files(self) -> bool:
        """Whether it chooses the frames of video files itself."""
        return self.builder.video.from_files

    def see(self, inputs: VlmInputs) -> Seen:
        """One forward pass: the hidden states that the head may read."""
        inputs = inputs.to(self.device)
        num_layers: Any = self.head.num_layers
        more = num_layers > 1
        # the inner model: no language-model logits are needed; positions are always explicit
        made = self.vlm.model(**inputs.model_arguments(), use_cache=False, output_hidden_states=more)
        layers = made.hidden_states if more else (made.last_hidden_state,)
        return Seen(layers, inputs.rows, inputs.columns, inputs.attention_mask)

    def read(self, *inputs: VlmInputs) -> Readout:
        """What the head says of S scores before normalisation, in float32; a forward pass for each template."""
        found: Readout = self.head(*(self.see(one) for one in inputs))
        return found

    def raw(self, *inputs: VlmInputs) -> Tensor:
        """Scores (S, D) before normalisation, in float32."""
        return self.read(*inputs).values

    def normalized(self, raw: Tensor) -> Tensor:
        """Scores on the scale of the calibration prompts: mean 0, standard deviation 1."""
        mean = torch.tensor(self.settings.mean, device=raw.device)
        return (raw - mean) / torch.tensor(self.settings.std, device=raw.device)

    def overall(self, values: Tensor) -> Tensor:
        """One number (B,) from normalised scores (B, D), on the scale of the calibration prompts."""
        how = self.settings
        fused = overall_of(values, how.overall, how.overall_weights, how.overall_powers)
        return (fused - self.settings.overall_mean) / self.settings.overall_std

    def overall_log_variance(self, values: Tensor, log_variance: Tensor) -> Tensor:
        """That of the overall score (B,): heads are independent, but for those that a published rule fuses."""
        rule, weights = self.settings.overall, self.settings.overall_weights
        if isinstance(self.head, FusedHead) and not weights:
            fused = 2 * fused_log_std(log_variance / 2, rule, values)
        else:
            fused = overall_log_variance(log_variance, values, rule, weights, self.settings.overall_powers)
        return fused - 2 * math.log(self.settings.overall_std)

    def forward(self, *, samples: Sequence[Sample]) -> Scores:
        """Normalised scores; gradients are kept if some sample's media asks for them."""
        wanted = any(isinstance(s.media, Tensor) and s.media.requires_grad for s in samples)
        with torch.set_grad_enabled(wanted and torch.is_grad_enabled()):
            return score(
                samples, self._judge, names=self.dimensions, modalities=self.modalities,
                batch_size=self.batch_size, overall=self.overall, unsure=self.overall_log_variance,
                read=partial(read_sample, rule=self.builder.video),
            )  # fmt: skip

    def _judge(self, batch: Sequence[Prepared]) -> Tensor:
        """Normalised values (B, D), or with their log variance (B, 2, D)."""
        sources: list[Clip] | None = [one.source_clip for one in batch if one.source_clip is not None] or None
        prompts, media = [one.prompt for one in batch], [one.clip for one in batch if one.clip is not None]
        if isinstance(self.head, CandidateHead):
            found = self.read(self.builder.together(prompts, [[one] for one in media], sources))
        else:
            found = self.read(*(builder(prompts, media, sources) for builder in self.builders))
        values = self.normalized(found.values)
        if found.log_std is None:
            return values
        std = torch.tensor(self.settings.std, device=values.device)
        return torch.stack([values, 2 * (found.log_std - std.log())], 1)

    def together(self, samples: Sequence[Sample]) -> Tensor:
        """Overall scores (N,) of N samples of one prompt and source in one forward pass (`candidates` heads only).

        They see those before them; called with samples one by one, the model judges each for itself.
        """
        if not isinstance(self.head, CandidateHead):
            raise ValueError(f"a '{self.settings.head}' head judges one by one: call the model with samples=")
        if len({sample.prompt for sample in samples}) != 1:
            raise ValueError("candidates of one forward pass must have one prompt")
        source = read_sample(samples[0], self.builder.video)[1]
        media = [read_sample(sample, self.builder.video)[0] for sample in samples]
        inputs = self.builder.together([samples[0].prompt], [media], None if source is None else [source])
        return self.overall(self.normalized(self.read(inputs).values))

    def save(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> Path:
        """Write the layout above; `dtype` is that of the weights on disk (the head stays float32)."""
        if [builder.template for builder in self.builders] != templates_of(self.settings):
            raise ValueError(
                "this reward asks a prompt from a file, which a saved folder cannot name: load it again"
            )
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        state = {
            key: value.detach().to(dtype) if dtype else value for key, value in plain_state(self.vlm).items()
        }
        with quiet():
            self.vlm.save_pretrained(target, state_dict=state)
        self.builder.tokenizer.save_pretrained(target)
        head = {
            key: value.detach().float().cpu().contiguous() for key, value in self.head.state_dict().items()
        }
        save_file(head, target / HEAD)
        (target / PIXELS).write_text(json.dumps(pixels_record(self.builder), indent=2) + "\n")
        (target / VIDEO).write_text(json.dumps(asdict(self.builder.video), indent=2) + "\n")
        self.settings.save(target / CONFIG)
        return target


def load_folder(
    path: str | Path, *, batch_size: int = 64, device: str | torch.device = "cpu", dtype: str = "float32",
    golden: bool = False,
) -> VlmReward:  # fmt: skip
    """A reward model that `VlmReward.save` wrote; missing or unexpected weights are errors. Weights are frozen.

    `golden=True` checks the scores against the folder's golden.json.
    """
    folder = Path(path)
    settings = RewardSettings.read(folder / CONFIG)
    with quiet():
        vlm, report = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=getattr(torch, dtype), output_loading_info=True
        )
    wrong = {
        kind: report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if report[kind]
    }
    if wrong:
        raise ValueError(f"{folder}: the weights do not fit the model: {wrong}")
    width = vlm.config.get_text_config().hidden_size
    head = build_head(settings.head, width, len(settings.dimensions), settings.head_options)
    head.load_state_dict(load_file(folder / HEAD))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rule, video = read_pixels(folder, vlm.config), read_video(folder)
    reward = VlmReward(vlm, head, tokenizer, rule, settings, batch_size=batch_size, video=video)
    reward.requires_grad_(False)
    reward.eval().to(device)
    return verify(reward, folder) if golden else reward


def load_bundled(
    *,
    name: str = "shapes-reward",
    batch_size: int = 64,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
) -> VlmReward:
    """A reward model that comes with mmalign, learned from preference pairs of a shapes world."""
    from mmalign.shapes.bundle import model_path

    return load_folder(model_path(name), batch_size=batch_size, device=device, dtype=dtype)


def describe(reward: VlmReward) -> dict[str, Any]:
    """What a card says of a model: its settings and the number of its weights."""
    return {"parameters": sum(p.numel() for p in reward.parameters()), **asdict(reward.settings)}
