"""Policies: stock diffusers pipelines behind one interface.

`load("folder or hub id", weights="lora")` picks the family by the pipeline's class. Each family is one small file
that names inputs; `base.py` says what it must name.
"""

from __future__ import annotations

from mmalign.policies.base import Family, Policy
from mmalign.policies.pipeline import PipelinePolicy
from mmalign.policies.registry import FAMILIES, family_named, from_pipeline, load
from mmalign.policies.weights import POLICY, REFERENCE, Weights

__all__ = [
    "FAMILIES",
    "Family",
    "POLICY",
    "PipelinePolicy",
    "Policy",
    "REFERENCE",
    "Weights",
    "family_named",
    "from_pipeline",
    "load",
]
