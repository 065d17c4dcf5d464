"""The catalogue's lines of the judges in words; a test holds them against the YAML files. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ANY = "option path, or server and model"
LOADER = "rewardmodels.judges.load:load_judge"


def _line(
    about: str, dimensions: tuple[str, ...], scale: str, modalities: tuple[str, ...], licence: str,
    weights: str = ANY, memory: str = "that of the model", **more: Any,
) -> Mapping[str, Any]:  # fmt: skip
    return {
        "about": about, "dimensions": dimensions, "scale": scale, "modalities": modalities, "licence": licence,
        "weights": weights, "memory": memory, "size": memory if memory.endswith("GB") else "", **more,
    }  # fmt: skip


MODEL = "that of the model"
EDITS, IMAGES = ("edit",), ("image",)
TWO = {"image": "images", "video": "videos as frames"}
WINS, WITHIN = ("win_rate",), "[0, 1], win rate within a group"
LINES: Mapping[str, Mapping[str, Any]] = {
    "editscore": _line(
        "EditScore: two questions, each two numbers 0 to 25; the smaller of each, their geometric mean",
        ("success", "preservation", "naturalness", "cleanness"), "[0, 10]; its four numbers [0, 25]", EDITS,
        "Apache-2.0", "EditScore/EditScore-7B", "16 GB",
    ),
    "paco-reward": _line(
        "PaCo-Reward: P(Yes) that two pictures are consistent; a set of pictures is the mean over its pairs",
        ("consistency",), "[0, 1]", ("edit", "video"), "no licence file", "X-GenGroup/PaCo-Reward-7B", "16 GB",
    ),
    "unifiedreward-image": _line(
        "UnifiedReward, one image: elements checked, then a final score", ("final",), "[1, 5]", IMAGES, "MIT (code)",
        "CodeGoat24/UnifiedReward-2.0-qwen-7b", "16 GB",
    ),
    "unifiedreward-video": _line(
        "UnifiedReward, one video as frames: five respects and a final score",
        ("alignment", "consistency", "motion", "quality", "factuality", "final"),
        "final [1, 10], respects [1, 4]", ("video",), "MIT (code)", "CodeGoat24/UnifiedReward-2.0-qwen-7b", "16 GB",
    ),
    "unifiedreward-edit": _line(
        "UnifiedReward-Edit, one edit: success and preservation, 0 to 25", ("success", "preservation"), "[0, 25]",
        EDITS, "MIT (code)", "CodeGoat24/UnifiedReward-Edit-qwen3vl-8b", "17 GB",
    ),
    "rationalrewards-t2i": _line(
        "RationalRewards: a critique, three marks, and a refined prompt",
        ("text_faithfulness", "physical_quality", "text_rendering"), "overall [3, 12], marks [1, 4]", IMAGES,
        "no licence file", "TIGER-Lab/RationalRewards-8B-T2I", "17 GB",
    ),
    "rationalrewards-edit": _line(
        "RationalRewards for edits: a critique, four marks, and a refined instruction",
        ("text_faithfulness", "image_faithfulness", "physical_quality", "text_rendering"),
        "overall [4, 16], marks [1, 4]", EDITS, "no licence file", "TIGER-Lab/RationalRewards-8B-Edit", "17 GB",
    ),
    "critique-then-mark": _line(
        "any instruction model: a critique first, then a mark that weighs it (the order of MM-RLHF-Reward)",
        ("final",), "[1, 10]", IMAGES, MODEL,
    ),
    "critique-then-score": _line(
        "a critique first, then a reward model that reads it too (MM-RLHF-Reward); option scorer: its folder",
        ("the scorer's",), "the scorer's", IMAGES, MODEL,
    ),
    "firm-edit": _line(
        "FIRM for edits: execution gates consistency, e (0.6 + 0.4 c)", ("execution", "consistency"),
        "[0, 1]; its two numbers [1, 5]", EDITS, "Apache-2.0 (code)", "VisionXLab/FIRM-Edit-8B", "17 GB",
    ),
    "firm-gen": _line(
        "FIRM for generated images: following gates quality, f (0.4 + 0.6 q), q the least of three",
        ("following", "aesthetics", "technique", "structure"), "[0, 1]; its four numbers [1, 5]", IMAGES,
        "Apache-2.0 (code)", "VisionXLab/FIRM-Gen-8B", "17 GB",
    ),
    "edit-principles": _line(
        "checks of an edit drawn up from its instruction and verified one by one (Edit-R1's verifier)",
        ("follow", "keep", "quality"), "[0, 1]", EDITS, MODEL,
    ),
    "vqascore": _line(
        "P(yes) that the picture shows the prompt: VQAScore, or RewardDance without a reference, of any model",
        ("alignment",), "[0, 1]", ("image", "video"), MODEL,
    ),
    "uniworld-v2": _line(
        "UniWorld-V2: expectation over the digits 0 to 5; metadata['requirement'] may say what counts",
        ("edit_following",), "[0, 1]", EDITS, MODEL, "Qwen/Qwen2.5-VL-32B-Instruct", "65 GB",
    ),
    "promptecho": _line(
        "PromptEcho: mean log-probability of the prompt, said of the picture; comparable for one prompt only",
        ("prompt_likelihood",), "below 0", IMAGES, MODEL, "Qwen/Qwen2.5-VL-7B-Instruct", "16 GB",
    ),
    "visionreward": _line(
        "VisionReward: P(yes) that it shows the prompt, and a checklist; option weights_file has learned weights",
        (
            "alignment", "subject_clear", "composed", "colours", "light", "sharp", "detailed", "undamaged", "whole",
            "plausible", "appealing", "people", "body", "face", "hands",
        ),
        "weighted sum of alignment in [0, 1] and answers in [-1, 1]", IMAGES, MODEL,
        "Qwen/Qwen2.5-VL-7B-Instruct", "16 GB",
    ),
    "visionreward-video": _line(
        "VisionReward for videos as frames: a checklist, three of its questions about the prompt",
        (
            "all_shown", "most_shown", "some_shown", "composed", "camera", "colours", "light", "mood", "whole", "kept",
            "dynamic", "smooth", "natural", "steady", "detailed", "writing", "spelled", "physical",
        ),
        "weighted mean of answers in [-1, 1]", ("video",), MODEL, "Qwen/Qwen2.5-VL-7B-Instruct", "16 GB",
    ),
    "rewarddance": _line(
        "RewardDance: P(yes) that the candidate beats the reference in metadata['reference'], decided first",
        ("better",), "[0, 1]", IMAGES, MODEL, beside="reference",
    ),
    "rewarddance-reasoned": _line(
        "RewardDance with reasoning before the verdict", ("better",), "[0, 1]", IMAGES, MODEL, beside="reference",
    ),
    "unifiedreward-pair": _line(
        "UnifiedReward, two images: which is better, in both orders", WINS, WITHIN, IMAGES, "MIT (code)",
        "CodeGoat24/UnifiedReward-2.0-qwen-7b", "16 GB", over_sets=True,
    ),
    "unifiedreward-pair-video": _line(
        "UnifiedReward, two videos as frames: which is better, in both orders", WINS, WITHIN, ("video",), "MIT (code)",
        "CodeGoat24/UnifiedReward-2.0-qwen-7b", "16 GB", over_sets=True,
    ),
    "unifiedreward-edit-pair": _line(
        "UnifiedReward-Edit, two edits of one picture: which is better, in both orders", WINS, WITHIN, EDITS,
        "MIT (code)", "CodeGoat24/UnifiedReward-Edit-qwen3vl-8b", "17 GB", over_sets=True,
    ),
    "unifiedreward-edit-scores": _line(
        "UnifiedReward-Edit, two edits of one picture: a score for each, in both orders", ("win_rate", "score"),
        "unbounded, mean of its scores within a group", EDITS, "MIT (code)", "CodeGoat24/UnifiedReward-Edit-qwen3vl-8b",
        "17 GB", over_sets=True,
    ),
    **{
        f"unifiedreward-share-{kind}": _line(
            f"UnifiedReward 2.0, two {shown}: shares of 1 in three respects, in both orders",
            ("win_rate", "alignment", "coherence", "style"), "[0, 1], mean share within a group", (kind,),
            "MIT (code)", "CodeGoat24/UnifiedReward-2.0-qwen-7b", "16 GB", over_sets=True,
        )
        for kind, shown in TWO.items()
    },
    **{
        f"unifiedreward-think-{kind}": _line(
            f"UnifiedReward-Think, two {shown}: marks with reasons first, then which is better, in both orders", WINS,
            WITHIN, (kind,), "MIT (code)", "CodeGoat24/UnifiedReward-Think-qwen3vl-8b", "17 GB", over_sets=True,
        )
        for kind, shown in TWO.items()
    },
    **{
        f"unifiedreward-flex-{kind}": _line(
            f"UnifiedReward-Flex, two {shown}: criteria of its own in three categories, in both orders",
            ("win_rate", "criteria"), "[0, 1], half win rate, half categories won, within a group", (kind,),
            "MIT (code)", "CodeGoat24/UnifiedReward-Flex-qwen3vl-8b", "17 GB", over_sets=True,
        )
        for kind, shown in TWO.items()
    },
    "one-or-two": _line(
        "any instruction model, two images: the probabilities of 1 and 2, log-odds averaged over both orders",
        WINS, WITHIN, IMAGES, MODEL, over_sets=True,
    ),
}  # fmt: skip
