"""Published CLIP-type checkpoints, written tiny, score as a plain reconstruction of what their authors run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.transforms.functional as TF
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from transformers import CLIPImageProcessorPil, CLIPModel

import rewardmodels
from mmalign.media import to_pil
from mmalign.types import Sample
from rewardmodels.clip.frames import FrameReward
from rewardmodels.clip.squares import CLIP_MEAN, CLIP_STD
from tests.contract import tiny_clip
from tests.contract.tiny_pipelines import clip_tokenizer

PROMPTS = ["a red fox", "blue", "a red fox", "two birds"]


def pictures() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    coarse = [torch.rand(1, 3, 5, 5, generator=generator) for _ in PROMPTS]
    sizes = [(48, 48), (64, 40), (33, 70), (48, 48)]
    made = [nn.functional.interpolate(c, s, mode="bilinear")[0] for c, s in zip(coarse, sizes, strict=True)]
    return [(image * 255).round() / 255 for image in made]


def scores(name: str, options: dict[str, Any]) -> Tensor:
    reward = rewardmodels.load(name, **options)
    samples = [Sample(prompt, image) for prompt, image in zip(PROMPTS, pictures(), strict=True)]
    got = reward(samples=samples)
    assert bool(got.valid.all()), got.reasons
    return got.overall


@torch.no_grad()
def hf_features(folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised embeddings and the logit scale, with the stock processor and the stock model."""
    model = CLIPModel.from_pretrained(folder).eval()
    own = json.loads(file.read_text()) if (file := folder / "preprocessor_config.json").is_file() else {}
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32, **own)
    seen = processor([to_pil(image) for image in pictures()], return_tensors="pt")
    words = clip_tokenizer()(
        PROMPTS, padding=True, truncation=True, max_length=tiny_clip.CLIP_LENGTH, return_tensors="pt"
    )
    out = model(**seen, **words)
    return out.image_embeds, out.text_embeds, model.logit_scale.exp()


def test_pickscore_is_the_scaled_cosine_of_the_stock_model(tmp_path: Path) -> None:
    folder = tiny_clip.hf_clip(tmp_path)
    images, texts, scale = hf_features(folder)
    expected = scale * (images * texts).sum(1)
    assert float(expected.std()) > 0.05
    torch.testing.assert_close(scores("pickscore", {"path": str(folder)}), expected, atol=1e-4, rtol=0)


def test_pixels_are_normalised_as_the_folder_says(tmp_path: Path) -> None:
    folder = tiny_clip.hf_clip(tmp_path)
    before = scores("pickscore", {"path": str(folder)})
    facts = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.25]}
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    images, texts, scale = hf_features(folder)
    after = scores("pickscore", {"path": str(folder)})
    torch.testing.assert_close(after, scale * (images * texts).sum(1), atol=1e-4, rtol=0)
    assert not torch.allclose(before, after, atol=1e-3)


def test_clip_score_in_its_three_forms(tmp_path: Path) -> None:
    folder = tiny_clip.hf_clip(tmp_path)
    images, texts, scale = hf_features(folder)
    cosine = (images * texts).sum(1)
    for form, expected in (
        ("cosine", cosine),
        ("clipscore", 2.5 * cosine.clamp_min(0)),
        ("logit", scale * cosine),
    ):
        got = scores("clip-score", {"path": str(folder), "form": form})
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    assert not torch.allclose(
        scores("clip-score", {"path": str(folder), "prefix": "not "}), cosine, atol=1e-3
    )


@torch.no_grad()
def test_hps_is_the_cosine_of_the_padded_picture(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip", reason="HPSv2 needs the extra clip")
    options = tiny_clip.open_clip_file(tmp_path, "HPS_v2.1_compressed.pt", inside="state_dict")
    model = open_clip.model.CLIP(**json.loads((tmp_path / "tiny.json").read_text())).eval()
    model.load_state_dict(torch.load(tmp_path / "HPS_v2.1_compressed.pt", weights_only=True)["state_dict"])
    seen = []
    for image in pictures():
        pixels = TF.to_tensor(to_pil(image))
        tall, wide = (round(side * 32 / max(pixels.shape)) for side in pixels.shape[1:])
        pixels = TF.resize(pixels, [tall, wide], InterpolationMode.BICUBIC)
        left, top = (32 - wide) // 2, (32 - tall) // 2
        pixels = TF.pad(pixels, [left, top, 32 - wide - left, 32 - tall - top], fill=0)
        seen.append(TF.normalize(pixels, CLIP_MEAN, CLIP_STD))
    words = open_clip.get_tokenizer("ViT-H-14")(PROMPTS)
    expected = (model.encode_image(torch.stack(seen), True) * model.encode_text(words, True)).sum(1)
    torch.testing.assert_close(scores("hpsv2.1", options), expected, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"HPS_v2_compressed\.pt"):  # the other version is another file
        rewardmodels.load("hpsv2", **options)


@torch.no_grad()
def test_social_reward_reads_openai_names_with_quick_gelu(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip", reason="Social Reward needs the extra clip")
    options = tiny_clip.open_clip_file(tmp_path, "social.pt", quick_gelu=True)
    weights = torch.load(tmp_path / "social.pt", weights_only=True)
    torch.save(weights | {"input_resolution": torch.tensor(32)}, tmp_path / "social.pt")
    model = open_clip.model.CLIP(**json.loads((tmp_path / "tiny.json").read_text())).eval()
    model.load_state_dict(weights)
    cut = [
        TF.center_crop(TF.resize(to_pil(image), 32, InterpolationMode.BICUBIC), 32) for image in pictures()
    ]
    seen = torch.stack([TF.normalize(TF.to_tensor(image), CLIP_MEAN, CLIP_STD) for image in cut])
    words = open_clip.get_tokenizer("ViT-L-14")(PROMPTS)
    expected = (model.encode_image(seen, True) * model.encode_text(words, True)).sum(1)
    torch.testing.assert_close(scores("social-reward", options), expected, atol=1e-4, rtol=0)


def test_the_aesthetic_head_is_its_authors_chain(tmp_path: Path) -> None:
    options = tiny_clip.aesthetic(tmp_path)
    images, _, _ = hf_features(Path(options["clip"]))
    shapes = tiny_clip.AESTHETIC
    chain = nn.Sequential(
        nn.Linear(*shapes[0][::-1]), nn.Dropout(0.2), nn.Linear(*shapes[2][::-1]), nn.Dropout(0.2),
        nn.Linear(*shapes[4][::-1]), nn.Dropout(0.1), nn.Linear(*shapes[6][::-1]), nn.Linear(*shapes[7][::-1]),
    ).eval()  # fmt: skip
    weights = torch.load(options["path"], weights_only=True)
    chain.load_state_dict({name.removeprefix("layers."): item for name, item in weights.items()})
    expected = chain(images).squeeze(1).detach()
    assert float(expected.std()) > 0.01
    torch.testing.assert_close(scores("laion-aesthetic", options), expected, atol=1e-4, rtol=0)


def test_a_head_on_picture_and_prompt_reads_both_in_this_order(tmp_path: Path) -> None:
    options = tiny_clip.picture_and_prompt_head(tmp_path)
    images, texts, _ = hf_features(Path(options["clip"]))
    weights = torch.load(options["path"], weights_only=True)
    seen = torch.cat([images, texts], 1)
    for number in (0, 2, 4, 6, 7):
        seen = seen @ weights[f"layers.{number}.weight"].T + weights[f"layers.{number}.bias"]
        seen = torch.relu(seen) if number < 7 else seen
    torch.testing.assert_close(scores("clip-head", options), seen.squeeze(1), atol=1e-4, rtol=0)


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    options = tiny_clip.aesthetic(tmp_path)
    weights = torch.load(options["path"], weights_only=True)
    torch.save({k: v for k, v in weights.items() if k != "layers.4.bias"}, options["path"])
    with pytest.raises(ValueError, match=r"1 missing \(layers\.4\.bias\)"):
        rewardmodels.load("laion-aesthetic", **options)
    torch.save({f"mlp.{name}": item for name, item in weights.items()}, options["path"])
    with pytest.raises(ValueError, match="no chain"):
        rewardmodels.load("laion-aesthetic", **options)
    wide = tiny_clip.head(tmp_path, "wide.pth", reads=30)
    with pytest.raises(ValueError, match="as option clip"):
        rewardmodels.load("laion-aesthetic", path=str(wide), clip=options["clip"])
    tensors = load_file(Path(options["clip"]) / "model.safetensors")
    save_file(
        {k: v for k, v in tensors.items() if "post_layernorm" not in k},
        Path(options["clip"]) / "model.safetensors",
    )
    with pytest.raises(ValueError, match=r"vision_model\.post_layernorm"):
        rewardmodels.load("pickscore", path=options["clip"])


def test_a_file_with_code_in_it_is_not_opened(tmp_path: Path) -> None:
    torch.save({"layers": nn.Linear(2, 2)}, tmp_path / "head.pth")
    with pytest.raises(ValueError, match="not a plain file of tensors"):
        rewardmodels.load("laion-aesthetic", path=str(tmp_path / "head.pth"), clip=str(tmp_path))


def test_a_path_that_is_nothing_says_so() -> None:
    with pytest.raises(ValueError, match="option path"):
        rewardmodels.load("laion-aesthetic")
    with pytest.raises(ValueError, match="no file or folder"):
        rewardmodels.load("pickscore", path="./nowhere/at/all")


def test_long_prompts_are_told_or_refused(tmp_path: Path) -> None:
    options = {"path": str(tiny_clip.hf_clip(tmp_path))}
    reward = rewardmodels.load("pickscore", **options)
    assert isinstance(reward, FrameReward)
    image, long = pictures()[0], "a very long prompt indeed"
    with pytest.warns(UserWarning, match="beginning of 1 "):
        cut = reward(samples=[Sample(long, image)] * 3).overall
    with pytest.warns(UserWarning, match="beginning"):
        same = reward(samples=[Sample(f"{long} that goes on", image)]).overall
    torch.testing.assert_close(cut[:1], same, atol=1e-5, rtol=0)
    strict = rewardmodels.load("pickscore", long_prompts="refuse", **options)(
        samples=[Sample(long, image), Sample("a", image)]
    )
    assert strict.valid.tolist() == [False, True] and "shorten" in str(strict.reasons[0])


def test_a_video_is_the_mean_of_its_frames(tmp_path: Path) -> None:
    reward = rewardmodels.load("pickscore", path=str(tiny_clip.hf_clip(tmp_path)), batch_size=2)
    frames = torch.stack([nn.functional.interpolate(i[None], (40, 40))[0] for i in pictures()[:3]])
    each = reward(samples=[Sample("a fox", frame) for frame in frames]).overall
    torch.testing.assert_close(
        reward(samples=[Sample("a fox", frames)]).overall[0], each.mean(), atol=1e-5, rtol=0
    )


def test_an_open_clip_folder_and_a_hub_id_are_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("open_clip", reason="needs the extra clip")
    plain = tiny_clip.open_clip_file(tmp_path / "file", "weights.pt")
    folder = tmp_path / "folder"
    folder.mkdir()
    weights = torch.load(tmp_path / "file" / "weights.pt", weights_only=True)
    save_file(
        {name: item.contiguous() for name, item in weights.items()}, folder / "open_clip_model.safetensors"
    )
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    record = {"model_cfg": tiny_clip.OPEN_CLIP, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(record))
    asked: list[tuple[str, list[str]]] = []

    def download(repo: str, *, allow_patterns: list[str]) -> str:
        asked.append((repo, allow_patterns))
        if repo == "nobody/nothing":
            raise OSError("no such repository")
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    from_hub = rewardmodels.load("clip-score", path="somebody/a-clip")
    assert isinstance(from_hub, FrameReward) and from_hub.rule.mean == (0.5, 0.5, 0.5)
    assert asked[0][0] == "somebody/a-clip" and "open_clip_model.safetensors" in asked[0][1]
    ordinary = rewardmodels.load(
        "clip-score", path=plain["path"] + "/weights.pt", architecture=plain["architecture"]
    )
    assert isinstance(ordinary, FrameReward) and ordinary.rule.mean == CLIP_MEAN
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(from_hub.look(pixels, ["a", "b"]), ordinary.look(pixels, ["a", "b"]))
    with pytest.raises(ValueError, match="check name and network"):
        rewardmodels.load("pickscore", path="nobody/nothing")
