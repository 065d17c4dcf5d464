"""What `mmalign serve` and the reward `remote` say to each other: JSON and whole files, nothing that could run.

A request is `{"reward": name, "samples": [{"prompt", "media", "source", "id", "metadata"}]}`, either as JSON or as the
field `request` of a multipart form. `media` and `source` are one text, or a list of texts that are the frames of a
video: a data URL, bare base64, or `part:NAME`, a file of the same form. Nothing is ever fetched and no path is read.
An answer has a row a sample: `{"id", "values": {dimension: number}, "overall", "log_variance",
"overall_log_variance", "details", "reason"}`. Numbers are null where the sample could not be judged, variances and
details (what a judge in words said) where the reward gives none.

A reward with `"groups": true` in /rewards compares samples: those of a request with one `metadata.group`, or else of
one prompt and source, are a group. It is judged whole and by itself, so all candidates of a prompt belong in one
request.

How media become texts and files, and pixels again, is in `rewardmodels.blobs`.

Legend: `B` samples, `D` dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from torch import Tensor

from mmalign.types import Scores


class AskedSample(BaseModel):
    """One sample of a request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str
    media: str | list[str]
    source: str | list[str] | None = None
    id: str = ""
    metadata: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        """Every media text of the sample."""
        found: list[str] = []
        for one in (self.media, self.source):
            found += [one] if isinstance(one, str) else one or []
        return found


class Asked(BaseModel):
    """A request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    samples: list[AskedSample] = Field(min_length=1)
    reward: str | None = None

    @property
    def num_media(self) -> int:
        """Files in the request; each frame that is sent alone counts."""
        return sum(len(sample.texts) for sample in self.samples)


def request_body() -> dict[str, Any]:
    """What POST /score takes, as OpenAPI says it."""
    schema = Asked.model_json_schema()
    form = {
        "type": "object",
        "required": ["request"],
        "properties": {"request": {"type": "string", "description": "The JSON of a request."}},
        "additionalProperties": {"type": "string", "format": "binary", "description": "A file, part:NAME."},
    }
    asked = _inlined(schema, schema["$defs"])
    content = {"application/json": {"schema": asked}, "multipart/form-data": {"schema": form}}
    return {"required": True, "content": content}


def _inlined(node: Any, definitions: Mapping[str, Any]) -> Any:
    """A JSON schema with its definitions in place of the references to them."""
    if isinstance(node, list):
        return [_inlined(one, definitions) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inlined(definitions[node["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(one, definitions) for key, one in node.items() if key != "$defs"}


def scores_to_rows(scores: Scores, ids: Sequence[str]) -> list[dict[str, Any]]:
    """A JSON row a sample; what is not a finite number is null."""
    rows = []
    for i, id in enumerate(ids):
        variance = None if scores.log_variance is None else _by_name(scores.names, scores.log_variance[i])
        fused = None if scores.overall_log_variance is None else scores.overall_log_variance[i]
        said = None if scores.details is None else scores.details[i]
        row = {"id": id, "values": _by_name(scores.names, scores.values[i])}
        rows.append(
            row
            | {
                "overall": _plain(float(scores.overall[i])),
                "log_variance": variance,
                "overall_log_variance": None if fused is None else _plain(float(fused)),
                "details": _finite(said),
                "reason": scores.reasons[i] if not bool(scores.valid[i]) else None,
            }
        )
    return rows


def rows_to_scores(rows: Sequence[Any], names: tuple[str, ...]) -> Scores:
    """The scores (B,) an answer holds; ValueError where it does not have the agreed form."""
    try:
        values = torch.tensor([[_number(row["values"][name]) for name in names] for row in rows])
        overall = torch.tensor([_number(row["overall"]) for row in rows])
        given = [row.get("log_variance") for row in rows]
        reasons = tuple(row["reason"] for row in rows)
        known = [variance for variance in given if variance is not None]
        fused = [row.get("overall_log_variance") for row in rows]
        said = [row.get("details") for row in rows]
        if not all(one is None or isinstance(one, dict) for one in said):
            raise TypeError("details")
        variances = None
        if known:
            blank = dict.fromkeys(names)
            table = [[_number((variance or blank)[name]) for name in names] for variance in given]
            variances = torch.tensor(table)
        told = known and all("overall_log_variance" in row for row in rows)
        totals = None
        if told or any(one is not None for one in fused):
            totals = torch.tensor([_number(one) for one in fused])
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(
            f"the server's answer has another form ({problem!r}): is it `mmalign serve`?"
        ) from problem
    valid = torch.tensor([reason is None for reason in reasons], dtype=torch.bool)
    shaped = values.reshape(len(rows), len(names))
    details = tuple(said) if any(one is not None for one in said) else None
    return Scores(shaped, names, overall, valid, reasons, variances, details, totals)


def _by_name(names: Sequence[str], values: Tensor) -> dict[str, float | None]:
    return {name: _plain(value) for name, value in zip(names, values.tolist(), strict=True)}


def _finite(said: Any) -> Any:
    """Plain values as they are, but null for a number that JSON has no word for.

    >>> _finite({"mass": float("nan"), "answers": ("yes", 2)})
    {'mass': None, 'answers': ['yes', 2]}
    """
    if isinstance(said, Mapping):
        return {key: _finite(value) for key, value in said.items()}
    if isinstance(said, (list, tuple)):
        return [_finite(value) for value in said]
    return _plain(said) if isinstance(said, float) else said


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
