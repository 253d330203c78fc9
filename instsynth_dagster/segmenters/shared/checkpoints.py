"""Reading the architecture of this project's own segmenters, and transferring weights between models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from instsynth_dagster.errors import SettingsError
from instsynth_dagster.settings import SegmenterSettings
from instsynth_dagster.settings.base import refusal

CONFIG, WEIGHTS = "config.json", "model.safetensors"
Config = TypeVar("Config", bound=BaseModel)


def architecture(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """`values` as a configuration.

    Raises:
        SettingsError: a key is unknown or a value impossible.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise refusal(error, "segmenters.architecture") from None


def save_checkpoint(model: nn.Module, config: str, out: Path) -> None:
    """Fill a checkpoint folder: weights of a model on the CPU as safetensors, and its configuration as JSON text."""
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, out / WEIGHTS)
    (out / CONFIG).write_text(config)


def for_inference(trained: Config, settings: SegmenterSettings) -> Config:
    """The configuration of a checkpoint, with its inference values replaced by those of the current settings.

    Raises:
        SettingsError: a value is impossible.
    """
    now = settings.applied_architecture
    if not now:
        return trained
    return architecture(type(trained), _merged(trained.model_dump(mode="json", exclude_unset=True), now))


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Values with changes to them, also inside mappings that both have."""
    inside = {
        name: _merged(values[name], change)
        for name, change in changes.items()
        if isinstance(change, Mapping) and isinstance(values.get(name), Mapping)
    }
    return {**values, **changes, **inside}


def transferred_weights(
    trained: nn.Module, model: nn.Module, before: Sequence[str], now: Sequence[str], per_class: Sequence[str]
) -> dict[str, Tensor]:
    """A state for `model` from `trained`: parameters of equal shape, and of class layers the rows of known classes.

    Args:
        before, now: classes of the two models.
        per_class: suffixes of the names of parameters with a row for each class, and any further rows ("no object")
            last.

    Raises:
        SettingsError: the class layers of the two models have different widths.
    """
    state, learnt = model.state_dict(), trained.state_dict()
    for name, weight in learnt.items():
        if name not in state:
            continue
        if name.endswith(tuple(per_class)):
            if weight.shape[1:] != state[name].shape[1:]:
                raise SettingsError(
                    f"segmenters.architecture: {name} would be {tuple(state[name].shape)}, but the trained model's is "
                    f"{tuple(weight.shape)}; leave out what changes the sizes of segmenters.model"
                )
            rows = state[name].clone()
            for index, label in enumerate(now):
                if label in before:
                    rows[index] = weight[list(before).index(label)]
            rows[len(now) :] = weight[len(before) :]
            state[name] = rows
        elif weight.shape == state[name].shape:
            state[name] = weight
    return state
