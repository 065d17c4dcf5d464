"""The names of rewards: what each judges, on what scale, under which licence, and who loads it. Imports no torch."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewardmodels.judges.entries import ANY, LINES
from rewardmodels.judges.entries import LOADER as JUDGE
from rewardmodels.options import require_options
from rewardmodels.settings import record_of

if TYPE_CHECKING:
    from mmalign.types import RewardModel

CONFIG = "reward_config.json"
YAML = (".yaml", ".yml")
FOLDERS = {
    "plural": "rewardmodels.personal", "clip": "rewardmodels.clip.trained", "judge": "rewardmodels.judges.trainable",
}  # fmt: skip
"""By family the module that opens a saved reward; any other family has a head on a VLM."""
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Entry:
    """One reward of the catalogue. `loader` is `module:function`, called with `arguments` and the user's options.

    `weights` says where the published weights are (a hub id, or the option that names the file) and `size` how much
    is downloaded; `memory` is that of the loaded weights; `extra` is the optional part of mmalign that it needs.
    """

    loader: str
    about: str
    dimensions: tuple[str, ...]
    scale: str
    modalities: tuple[str, ...] = ("image",)
    licence: str = "Apache-2.0"
    memory: str = "none"
    weights: str = ""
    size: str = ""
    extra: str = ""
    differentiable: bool = False
    over_sets: bool = False
    """Judges a sample by the others of its prompt or call (what it adds to them, or how often it wins), so it must see
    them together."""
    beside: str = ""
    """The picture that a sample must bring along in its metadata, by its key."""
    arguments: Mapping[str, Any] = field(default_factory=dict)


ANY_MEDIA = ("image", "edit", "video")

CATALOG: Mapping[str, Entry] = {
    "shapes-verifier": Entry(
        "rewardmodels.rules:shapes_verifier", "exact judge of the shapes world; option score: graded or passed",
        ("instruction_following", "visual_quality", "overall"), "[0, 1]",
    ),
    "shapes-reward": Entry(
        "rewardmodels.vlm:load_bundled", "bundled Qwen3-VL reward model, learned from shapes preference pairs",
        ("overall",), "about -2 to 2, 0 is average", memory="5 MB", differentiable=True,
    ),
    "shapes-edits-reward": Entry(
        "rewardmodels.vlm:load_bundled", "the same for edits: source, instruction and what was made of it",
        ("overall",), "about -2 to 2, 0 is average", ("edit",), memory="5 MB", differentiable=True,
        arguments={"name": "shapes-edits-reward"},
    ),
    "shapes-videos-reward": Entry(
        "rewardmodels.vlm:load_bundled", "the same for videos of moving shapes",
        ("overall",), "about -2 to 2, 0 is average", ("video",), memory="5 MB", differentiable=True,
        arguments={"name": "shapes-videos-reward"},
    ),
    "jpeg-compressibility": Entry(
        "rewardmodels.rules:jpeg", "how small the picture is as JPEG: -kilobytes / 500 at quality 95; reads no prompt",
        ("compressibility",), "below 0, higher is smaller", ("image", "edit"), arguments={"sign": -1},
    ),
    "jpeg-incompressibility": Entry(
        "rewardmodels.rules:jpeg", "how large the picture is as JPEG: kilobytes / 500 at quality 95; reads no prompt",
        ("incompressibility",), "above 0, higher is larger", ("image", "edit"), arguments={"sign": 1},
    ),
    "sharpness": Entry(
        "rewardmodels.probes:sharpness",
        "probe: variance of the Laplacian of the luma; blur lowers it; reads no prompt",
        ("sharpness",), "above 0, photographs about 0.001 to 0.1", ("image", "edit", "video"), differentiable=True,
    ),
    "saturation": Entry(
        "rewardmodels.probes:saturation",
        "probe: mean saturation (HSV); what rewards are often hacked with; reads no prompt",
        ("saturation",), "[0, 1], 0 is grey", ("image", "edit", "video"), differentiable=True,
    ),
    "brightness": Entry(
        "rewardmodels.probes:brightness", "probe: mean luma (ITU-R BT.601); reads no prompt",
        ("brightness",), "[0, 1], 0 is black", ("image", "edit", "video"), differentiable=True,
    ),
    "motion": Entry(
        "rewardmodels.probes:motion",
        "probe: mean absolute difference of neighbouring frames, 0 for a still video; reads no prompt",
        ("motion",), "[0, 1], 0 is still", ("video",), differentiable=True,
    ),
    "remote": Entry(
        "rewardmodels.remote:Remote", "asks a server that runs `mmalign serve`; option url, reward, token_env",
        ("the server's",), "the server's", ("image", "edit", "video"), memory="elsewhere",
    ),
    "ocr": Entry(
        "rewardmodels.ocr.reward:ocr", "whether the texts that the prompt quotes can be read; option measure, targets",
        ("contained", "closest", "whole"), "[0, 1]", ("image", "edit", "video"), memory="0.3 GB",
        weights="in the wheel of rapidocr: PP-OCRv6 small", size="31 MB", extra="ocr",
    ),
    "geneval": Entry(
        "rewardmodels.geneval.reward:geneval", "GenEval-like: objects, counts, colours and places by any detector",
        ("correct", "fraction"), "[0, 1]", memory="0.3 GB, or the detector's", size="0.3 GB",
        weights="facebook/mask2former-swin-small-coco-instance, or option detector",
    ),
    "clip-score": Entry(
        "rewardmodels.clip.similarity:clip_score", "CLIPScore of any CLIP model; option form: cosine, clipscore, logit",
        ("alignment",), "[-1, 1], usually 0.1 to 0.4", ("image", "video"), "MIT", "1.7 GB",
        weights="openai/clip-vit-large-patch14", size="1.7 GB", differentiable=True,
    ),
    "pickscore": Entry(
        "rewardmodels.clip.similarity:pick_score", "PickScore: which picture people pick (Pick-a-Pic)",
        ("alignment",), "about 17 to 24; compare within a prompt", ("image", "video"), "MIT", "3.9 GB",
        weights="yuvalkirstain/PickScore_v1", size="3.9 GB", differentiable=True,
    ),
    "hpsv2": Entry(
        "rewardmodels.clip.similarity:hps", "HPSv2.0: human preference; not comparable with 2.1",
        ("alignment",), "about 0.2 to 0.35; compare within a prompt", ("image", "video"), memory="3.9 GB",
        weights="xswu/HPSv2", size="2 GB", extra="clip", differentiable=True, arguments={"version": "2.0"},
    ),
    "hpsv2.1": Entry(
        "rewardmodels.clip.similarity:hps", "HPSv2.1: human preference, trained on more data",
        ("alignment",), "about 0.2 to 0.35; compare within a prompt", ("image", "video"), memory="3.9 GB",
        weights="xswu/HPSv2", size="2 GB", extra="clip", differentiable=True, arguments={"version": "2.1"},
    ),
    "social-reward": Entry(
        "rewardmodels.clip.similarity:social_reward", "Social Reward: CLIP finetuned on a community's likes",
        ("alignment",), "[-1, 1]; compare within a prompt", ("image", "video"), "none stated", "1.7 GB",
        weights="the file, as option path", extra="clip", differentiable=True,
    ),
    "laion-aesthetic": Entry(
        "rewardmodels.clip.embedding_head:laion_aesthetic",
        "LAION aesthetic predictor on CLIP ViT-L/14; reads no prompt",
        ("aesthetics",), "about 1 to 10", ("image", "edit", "video"), memory="1.7 GB", size="1.7 GB",
        weights="the file sac+logos+ava1-l14-linearMSE.pth, as option path", differentiable=True,
    ),
    "clip-head": Entry(
        "rewardmodels.clip.embedding_head:clip_head", "your own head on the CLIP embedding of a picture (and prompt)",
        ("score",), "the head's", ("image", "video"), "the head's", "1.7 GB",
        weights="the head's file, as option path", differentiable=True,
    ),
    "videoreward": Entry(
        "rewardmodels.checkpoints.video_reward:load",
        "VideoReward (VideoAlign): generated videos; prompt in our words unless template_file has the published one",
        ("visual_quality", "motion_quality", "text_alignment"), "z-scores, overall is their sum; mostly -6 to 6",
        ("video",), memory="4.5 GB", weights="KlingTeam/VideoReward", size="5.0 GB", differentiable=True,
    ),
    "hpsv3": Entry(
        "rewardmodels.checkpoints.hpsv3:load",
        "HPSv3: human preference with a variance; prompt in our words unless template_file has the published one",
        ("preference",), "not bounded, about -10 to 15; compare within a prompt", ("image",), memory="17 GB",
        weights="MizzenAI/HPSv3", size="17 GB", differentiable=True,
    ),
    "editreward": Entry(
        "rewardmodels.checkpoints.edit_reward:load",
        "EditReward (MiMo or Qwen2.5-VL): edits; prompts in our words unless template_file names the published two",
        ("instruction_following", "visual_quality"), "about -3 to 2, below 0 is usual", ("edit",), "MIT", "17 GB",
        weights="TIGER-Lab/EditReward-MiMo-VL-7B-SFT-2508", size="17 GB", differentiable=True,
    ),
    "vefx-reward": Entry(
        "rewardmodels.checkpoints.vefx:load",
        "VEFX-Reward: edits of videos; prompt in our words unless template_file has the published one",
        ("instruction_following", "rendering_quality", "edit_exclusivity"), "[1, 4], overall is the sum", ("edit",),
        memory="9 GB", weights="xiangbog/VEFX-Reward-4B", size="9 GB", differentiable=True,
    ),
    "image-reward": Entry(
        "rewardmodels.clip.image_reward:image_reward", "ImageReward: human preference from BLIP, 35 tokens of prompt",
        ("preference",), "about -2.5 to 2, 0 is average", ("image", "video"), memory="1.8 GB",
        weights="THUDM/ImageReward", size="1.8 GB", differentiable=True,
    ),
    "set-vendi": Entry(
        "rewardmodels.distribution:vendi",
        "diversity: what a sample adds to the Vendi score of its prompt's samples; reads no prompt unless features do",
        ("credit", "set"), "about 0 to 1; of a set 1 to its size", ANY_MEDIA, over_sets=True,
    ),
    "set-frechet": Entry(
        "rewardmodels.distribution:frechet",
        "what a sample adds to minus the Frechet distance to option reference; reads no prompt unless features do",
        ("credit", "set"), "above 0 is closer; of a set below 0", ANY_MEDIA, over_sets=True,
    ),
    "exemplars": Entry(
        "rewardmodels.distribution:exemplars",
        "closeness to an exemplar set; option reference, features, measure; reads no prompt unless features do",
        ("closeness",), "nearest [-1, 1], kernel [0, 1], mahalanobis below 0", ANY_MEDIA,
    ),
    "judge": Entry(
        JUDGE, "a judge in words by option config: a name of rewardmodels/judges/files, or your YAML file",
        ("the judge's",), "the judge's", ("image", "edit"), "that of the model", "that of the model", weights=ANY,
    ),
    **{name: Entry(JUDGE, **line, arguments={"config": name}) for name, line in LINES.items()},
}  # fmt: skip


def load(name_or_path: str, **options: Any) -> RewardModel:
    """The reward of a catalogue name, of a folder with `reward_config.json`, of a YAML file that composes rewards,
    or of a function `module:name`.
    """
    require_known(name_or_path, options)
    entry = CATALOG.get(name_or_path)
    module, _, function = _loader_of(name_or_path).partition(":")
    loader = getattr(importlib.import_module(module), function)
    if entry is not None:
        return _as_reward(loader(**entry.arguments, **options))
    folder = Path(name_or_path)
    return _as_reward(loader(folder if folder.is_dir() else name_or_path, **options))


def require_known(name_or_path: str, options: Mapping[str, Any] | None = None) -> None:
    """ValueError, with the nearest name, where `load` would find no reward, or (if given) not these options; imports
    and opens none.
    """
    path = Path(name_or_path)
    known = name_or_path in CATALOG or path.suffix in YAML or (path / CONFIG).is_file()
    if not known and path.is_dir():
        raise ValueError(f"{path} holds no {CONFIG}: give the folder that `mmalign train-reward` wrote")
    if not known and not _FUNCTION.fullmatch(name_or_path):
        near = difflib.get_close_matches(name_or_path, CATALOG, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "`mmalign ls rewards` lists them"
        raise ValueError(
            f"no reward '{name_or_path}': {hint} (or a model folder, a YAML file, or a Python function as module:name)"
        )
    if options is not None:
        fixed = CATALOG[name_or_path].arguments if name_or_path in CATALOG else ()
        require_options(name_or_path, _loader_of(name_or_path), options, fixed=fixed)


def _as_reward(made: Any) -> RewardModel:
    """What a loader made; a judge of pairs, which scores nothing alone, as win rates within groups."""
    if callable(getattr(made, "compare", None)):
        from rewardmodels.judges.pairwise import WinRate

        made = WinRate(made)
    reward: RewardModel = made
    return reward


def _loader_of(name_or_path: str) -> str:
    """What opens it, as `module:function`; a saved reward says its family."""
    path = Path(name_or_path)
    if name_or_path in CATALOG:
        return CATALOG[name_or_path].loader
    if path.suffix in YAML:
        return "rewardmodels.combine:from_file"
    if (path / CONFIG).is_file():
        family = str(record_of(path / CONFIG).get("family"))
        return f"{FOLDERS.get(family, 'rewardmodels.candidates')}:load_folder"
    return "rewardmodels.functions:FunctionReward"
