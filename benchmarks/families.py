"""The families of rewards that `benchmarks.reward_families` trains: their recipes, and what each cannot know.

Shape legend: none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.ceilings import Formula, editscore

NAMES = {"images": "shapes", "edits": "shapes-edits", "videos": "shapes-videos"}
IMAGES = ("images",)


@dataclass(frozen=True)
class Family:
    """What a recipe needs changed in a world, and what its information cannot decide.

    `recipe` is reward/<family> unless said; `measured` is the dimension whose best it is held against; `sums` says that
    its overall score is a weighted sum of its dimensions (`asks` of which, if not of all in the world), `formula` what
    else it is of them; `bits` that it learns from one bit an item; `longer` says in which worlds it is trained for how
    many times the updates; `alone` that it starts from nothing; `writes` that it is a judge that writes its verdict.
    """

    blind: str = ""
    changes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    recipe: str = ""
    worlds: Sequence[str] = tuple(NAMES)
    measured: str = "overall"
    sums: bool = False
    asks: tuple[str, ...] = ()
    bits: bool = False
    longer: Mapping[str, float] = field(default_factory=dict)
    alone: bool = False
    writes: bool = False
    formula: Formula | None = None


ASPECTS = ["model.template=two-aspects/1", "method.dimensions=[visual_quality, instruction_following]"]
LEVELS = Family(
    "levels of single items; overall is linear in the aspects",
    {
        "images": [
            "model.template=two-levels/1",
            "method.dimensions=[instruction_following, visual_quality]",
        ],
        "videos": ["method.dimensions=[instruction_following, visual_quality, motion_quality]"],
    },
    sums=True,
    longer={"images": 2, "edits": 3},
)
LONG = {
    "images": [
        "budget.updates=8000",
        "data.shapes.stages=[{until: 0.1, categories: [single_object, colors], damage: 0.0}, {until: 1.0}]",
    ]
}
"""From nothing two towers need many updates, and few of them on single shapes."""
MORE = {"images": ["data.shapes.families=48"]}
"""Without a prompt a picture says one thing only, where elsewhere it is judged under every prompt of its family."""
FEW_PICTURES = [
    *(f"data.shapes.{what}=4" for what in ("families", "prompts", "images")),
    "method.loss=binary",
    "method.anchor=0",
]
"""As its row was measured, before the recipe was found that needs fewer updates."""
SIXTEEN = ["judge.asks.judge.passes=16"]
"""Answers whose mean is judged: what is unsure lies between the numbers that are said, and fewer are noisier."""
MARK = (
    "judge.asks.judge.asks=[{name: grade, wording: plain/1, format: lines, "
    "fields: [{name: final, label: final score, low: 1, high: 5, step: 0.2}]}]"
)
CLIP = "source, order of frames; picture and prompt meet in one product of two embeddings"
BLIP = "source, order of frames"
NO_PROMPT = "prompt: accuracy is that of visual quality"
PERSONAL = "prompt, quality: colours alone, and whose taste it is; accuracy is on votes of its annotators"
FAMILIES: dict[str, Family] = {
    "base-reward-like": Family(),
    "ixc-reward-like": Family(),
    "hpsv3-like": Family(),
    "video-reward-like": Family(
        "aspects before the prompt do not see it; overall is linear in the aspects",
        {
            "images": ASPECTS,
            "edits": ["method.dimensions=[visual_quality, preservation, instruction_following]"],
        },
        sums=True,
        longer={"edits": 3},
    ),
    "edit-reward-like": Family(
        "what was preserved is not asked; overall is the mean of the two answers",
        sums=True,
        asks=("instruction_following", "visual_quality"),
        worlds=("edits",),
        longer={"edits": 3},
    ),
    "vefx-like": LEVELS,
    "coral-like": LEVELS,
    "soli-reward-like": Family(
        "one bit an item: differences among good ones, or among bad ones, hardly show",
        bits=True,
        longer={"images": 2, "edits": 3, "videos": 3},
    ),
    "list-like": Family(),
    "yojo-like": Family(
        changes={"videos": ["model.template=named-candidates/1"]},
        longer={"images": 5, "edits": 4, "videos": 1.5},
    ),
    "adiee-like": Family("levels of single items", longer={"videos": 3}),
    "edithf-like": Family("levels of single items", longer={"edits": 2, "videos": 2}),
    "docreward-like": Family(NO_PROMPT, MORE, worlds=IMAGES, measured="visual_quality", longer={"images": 3}),
    "pick-like": Family(CLIP, LONG, recipe="clip/pick-like", worlds=IMAGES, alone=True),
    "hps-like": Family(CLIP, recipe="clip/hps-like", worlds=IMAGES, longer={"images": 4}),
    "social-like": Family(CLIP, recipe="clip/social-like", worlds=IMAGES, longer={"images": 4}),
    "image-reward-like": Family(BLIP, LONG, recipe="clip/image-reward-like", worlds=IMAGES, alone=True),
    "aesthetic-like": Family(
        NO_PROMPT,
        {"images": ["budget.updates=10000", "model.scratch.image_layers=3", "evaluation.every=500"]},
        recipe="clip/aesthetic-like",
        worlds=IMAGES,
        measured="visual_quality",
        alone=True,
    ),
    "paco-like": Family("one answer a picture", recipe="judge/paco-like"),
    "rewarddance-like": Family(
        "two at a time: nothing across prompts",
        {"images": FEW_PICTURES, "edits": ["judge.asks.judge.wording=plain-edit-pair/1"]},
        recipe="judge/rewarddance-like",
        longer={"images": 5, "edits": 2, "videos": 5},
    ),
    "uniworld-like": Family(
        "one digit a picture, of a video its frames without times",
        {"videos": ["judge.asks.videos=frames"]},
        recipe="judge/uniworld-like",
        longer={"videos": 3},
    ),
    "unifiedreward-like": Family(
        "one number in steps of 0.2",
        {world: [MARK, *SIXTEEN] for world in NAMES},
        recipe="judge/unifiedreward-like",
        longer={"images": 3, "edits": 3, "videos": 2},
        writes=True,
    ),
    "editscore-like": Family(
        "two pairs of numbers from 0 to 25; overall is a formula of them that is not the annotators'",
        {"edits": SIXTEEN},
        recipe="judge/editscore-like",
        worlds=("edits",),
        longer={"edits": 2},
        writes=True,
        formula=editscore,
    ),
    "pal-like": Family(PERSONAL, recipe="plural/shapes", worlds=IMAGES),
}
