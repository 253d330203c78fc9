"""The models that settings name, and how each is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from instsynth_dagster.settings import Settings
from instsynth_dagster.settings.named import checkpoints

_ONLY_SMALL = ("tokenizer",)
_OWN = ("trained_detector", "trained_semantics")
"""Keys of checkpoints that this project writes; only their existence is checked."""
_OF_OTHERS = ("config_file",)
"""Keys of files that another library reads in its own format."""


@dataclass(frozen=True)
class RequiredModel:
    """A model by its key in the params file.

    `pipeline` is the kind of the generator that runs it, or "" for any other model; `weights` are digests that its
    files must have; `own` is whether this project has trained it.
    """

    key: str
    source: str
    variant: str | None = None
    pipeline: str = ""
    with_weights: bool = True
    weights: Mapping[str, str] = field(default_factory=dict)
    own: bool = False


def required_models(settings: Settings) -> Iterator[RequiredModel]:
    """Every folder and hub id in the settings, without repetitions."""
    seen: set[tuple[str, str | None, bool]] = set()
    for place, source in checkpoints(settings).items():
        steps = place.split(".")
        if steps[-1] in _OF_OTHERS or "mirrors" in steps:
            continue
        required = _wanted(place, steps, source, settings)
        name = required.source, required.variant, required.with_weights
        if name not in seen:
            seen.add(name)
            yield required


def _wanted(place: str, steps: list[str], source: str, settings: Settings) -> RequiredModel:
    generator = settings.generators[steps[1]] if steps[0] == "generators" and steps[2:] == ["model"] else None
    return RequiredModel(
        key=place,
        source=source,
        variant=generator.variant if generator else None,
        pipeline=generator.kind if generator else "",
        with_weights=steps[-1] not in _ONLY_SMALL,
        weights=generator.weights if generator else {},
        own=steps[-1] in _OWN,
    )
