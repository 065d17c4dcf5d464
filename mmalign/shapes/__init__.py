"""The built-in world: coloured shapes on a plain background, with an exact judge of pixels."""

from mmalign.shapes.detection import Detected, Sight, detect
from mmalign.shapes.drawing import draw, render
from mmalign.shapes.grading import grade, satisfies
from mmalign.shapes.layout import sample_scene
from mmalign.shapes.prompts import parse, phrase, phrasings, sample_prompts, sample_specs, vocabulary
from mmalign.shapes.scene import COLORS, PALETTE, SHAPES, SIZES, Scene, Thing
from mmalign.shapes.specs import (
    CATEGORIES,
    PromptSpec,
    Requirement,
    all_specs,
    heldout_specs,
    train_specs,
)
from mmalign.shapes.verifier import Verdict, verify

__all__ = [
    "CATEGORIES", "COLORS", "Detected", "PALETTE", "PromptSpec", "Requirement", "SHAPES", "SIZES",
    "Scene", "Sight", "Thing", "Verdict", "all_specs", "detect", "draw", "grade", "heldout_specs",
    "parse", "phrase", "phrasings", "render", "sample_prompts", "sample_scene", "sample_specs",
    "satisfies", "train_specs", "verify", "vocabulary",
]  # fmt: skip
