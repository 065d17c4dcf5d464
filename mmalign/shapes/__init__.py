"""The built-in world: coloured shapes on a plain background, with an exact judge of pixels.

Text to image: `sample_prompts`, `render`, `verify`. Editing: `sample_edits`, `verify_edit`.
Video: `sample_clips`, `draw_clips`, `verify_video`. Annotators with known laws: `annotate`.
"""

from mmalign.shapes.annotators import Law, annotate, best_accuracy
from mmalign.shapes.bundle import bundled_path
from mmalign.shapes.detection import Detected, Sight, detect
from mmalign.shapes.drawing import draw, render
from mmalign.shapes.edit_verifier import EditVerdict, verify_edit
from mmalign.shapes.edits import EditSpec, EditTask, parse_edit, sample_edits
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
from mmalign.shapes.video_verifier import VideoVerdict, verify_video
from mmalign.shapes.videos import Clip, VideoSpec, draw_clips, parse_video, sample_clips

__all__ = [
    "CATEGORIES", "COLORS", "Clip", "Detected", "EditSpec", "EditTask", "EditVerdict", "Law",
    "PALETTE", "PromptSpec", "Requirement", "SHAPES", "SIZES", "Scene", "Sight", "Thing", "Verdict",
    "VideoSpec", "VideoVerdict", "all_specs", "annotate", "best_accuracy", "bundled_path", "detect", "draw",
    "draw_clips", "grade", "heldout_specs", "parse", "parse_edit", "parse_video", "phrase",
    "phrasings", "render", "sample_clips", "sample_edits", "sample_prompts", "sample_scene",
    "sample_specs", "satisfies", "train_specs", "verify", "verify_edit", "verify_video", "vocabulary",
]  # fmt: skip
