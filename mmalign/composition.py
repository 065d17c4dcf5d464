"""How rewards are written: one by name, or several as one by a rule, in the same YAML and inside each other.

    rewards:
      - shapes-verifier                                   # a name alone is a reward too
      - name: edit                                        # a composition has `rewards` and a rule
        weight: 0.5
        combine: {name: gate, base: execution, share: 0.6}
        rewards:
          - {name: execution, scale: {name: affine, mean: 1, std: 4}}
          - {name: consistency, scale: {name: affine, mean: 1, std: 4}}

The same mapping in a file of its own, `my-reward.yaml`, is a reward by that path wherever a reward is named. Every part
is first brought to its `scale` (several are applied in order), then the rule `combine` makes one number of them; the
arithmetic is in `mmalign.objectives.scaling` and `combining`. Some scales and rules look at a whole group (the samples
of one prompt): `needs_group` says which. Imports no torch.

>>> reward = Reward.model_validate({"name": "a", "scale": ({"name": "rank"},)})
>>> needs_group(reward)
True
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from mmalign.rules import POSITIVE_WEIGHTS, Rule, Scale, Sum, rule_needs_group, scale_needs_group
from mmalign.strict import Section, read_yaml, validate

# ---------------------------------------------------------------- a reward


class Reward(Section):
    """One reward: a catalogue name, a folder, a YAML file, or any Python function as `module:name`.

    With `rewards` it is a composition of these by the rule `combine`, and `name` is its own. `dimension` takes one of
    a reward's dimensions in place of its overall score.
    """

    name: str
    weight: float = 1.0
    options: dict[str, Any] = Field(default_factory=dict)
    dimension: str | None = None
    scale: tuple[Scale, ...] = ()
    combine: Rule | None = None
    rewards: tuple[Reward, ...] = ()

    @model_validator(mode="after")
    def _one_or_several(self) -> Reward:
        if self.combine is not None and not self.rewards:
            raise ValueError(f"reward '{self.name}' has a rule but no parts: list them under rewards")
        if self.rewards and (self.options or self.dimension is not None):
            raise ValueError(f"'{self.name}' is a composition: options and dimension belong to its parts")
        if self.rewards and any(scale.name == "confidence" for scale in self.scale):
            raise ValueError(
                f"'{self.name}' reports no variance: use combine={{name: confidence}}, which takes its parts'"
            )
        check_rule(self.rule, self.rewards)
        return self

    @property
    def rule(self) -> Rule:
        """The rule of a composition; a sum unless told."""
        return Sum() if self.combine is None else self.combine

    @classmethod
    def spelled_out(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The short forms written in full."""
        made: dict[str, Any] = spelled_out(data)
        return made


def check_rule(rule: Rule, parts: tuple[Reward, ...]) -> None:
    """ValueError where a rule does not fit its parts."""
    weights = [part.weight for part in parts]
    if rule.name in POSITIVE_WEIGHTS and any(weight <= 0 for weight in weights):
        raise ValueError(f"combine {rule.name} needs weights above 0, got {weights}")
    if rule.name == "min" and any(weight != 1 for weight in weights):
        raise ValueError("combine min looks at the lowest part: weights would not count, leave them out")
    if rule.name == "gate" and parts:
        names = labels(parts)
        if len(parts) < 2:
            raise ValueError("combine gate needs a base and one or more further parts")
        if rule.base is not None and rule.base not in names:
            raise ValueError(f"combine gate: no part is called '{rule.base}'; they are {', '.join(names)}")


def labels(parts: tuple[Reward, ...]) -> list[str]:
    """The names of parts, with the dimension if one is taken; a second one of the same name is `name#2`.

    >>> labels((Reward(name="a"), Reward(name="b", dimension="d"), Reward(name="a")))
    ['a', 'b/d', 'a#2']
    """
    made: list[str] = []
    for part in parts:
        plain = part.name if part.dimension is None else f"{part.name}/{part.dimension}"
        same = sum(name.rpartition("#")[0] == plain or name == plain for name in made)
        made.append(plain if not same else f"{plain}#{same + 1}")
    return made


def needs_group(reward: Reward) -> bool:
    """Whether the score of a sample depends on the others of its group or batch, here or in any part."""
    own = any(map(scale_needs_group, reward.scale)) or (
        bool(reward.rewards) and rule_needs_group(reward.rule)
    )
    return own or any(map(needs_group, reward.rewards))


# ---------------------------------------------------------------- short forms and files


def spelled_out(data: Any) -> Any:
    """Short forms in full, at any depth: `rewards: [a]`, `combine: min`, `scale: rank`; options are left alone.

    >>> spelled_out({"combine": "min", "rewards": ["a", {"name": "b", "scale": "rank"}]})["rewards"][1]
    {'name': 'b', 'scale': [{'name': 'rank'}]}
    """
    if isinstance(data, (list, tuple)):
        return [spelled_out(item) for item in data]
    if not isinstance(data, Mapping):
        return data
    made = {key: value if key == "options" else spelled_out(value) for key, value in data.items()}
    for key in made.keys() & {"combine", "reward"}:
        made[key] = _named(made[key])
    if isinstance(made.get("rewards"), list):
        made["rewards"] = [_named(item) for item in made["rewards"]]
    if isinstance(made.get("scale"), (str, dict)):
        made["scale"] = [made["scale"]]
    if isinstance(made.get("scale"), list):
        made["scale"] = [_named(item) for item in made["scale"]]
    return made


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def is_file(name: str) -> bool:
    """Whether a reward is named by a YAML file.

    >>> is_file("my-reward.yaml"), is_file("shapes-verifier")
    (True, False)
    """
    return name.endswith((".yaml", ".yml"))


def read_reward(path: str | Path, *, inside: tuple[Path, ...] = ()) -> Reward:
    """The reward in a YAML file, with the files it names read in; their paths start from its folder.

    ValueError for a missing file, a mistake in it, or files that name each other in a circle.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"no reward file {file}")
    if file.resolve() in inside:
        circle = " -> ".join(one.name for one in (*inside, file))
        raise ValueError(f"reward files name each other in a circle: {circle}")
    reward = validate(read_yaml(file), Reward, origin=file.name)
    return with_files(reward, file.parent, inside=(*inside, file.resolve()))


def with_files(reward: Reward, folder: Path = Path(), *, inside: tuple[Path, ...] = ()) -> Reward:
    """The reward with every part that is a YAML file replaced by what the file holds, under the name it is called by;
    its own scale comes after the file's.
    """
    if reward.rewards:
        parts = tuple(with_files(part, folder, inside=inside) for part in reward.rewards)
        return reward.model_copy(update={"rewards": parts})
    if not is_file(reward.name):
        return reward
    held = read_reward(folder / reward.name, inside=inside)
    if reward.options or reward.dimension is not None:
        raise ValueError(f"{reward.name}: options and dimension belong into the file")
    if not held.rewards:  # one reward in a file of its own: a composition of one
        return reward.model_copy(update={"rewards": (held.model_copy(update={"weight": 1.0}),)})
    scale = (*held.scale, *reward.scale)
    return held.model_copy(update={"name": reward.name, "weight": reward.weight, "scale": scale})
