"""The training data of segmenters: arms, shares of the labels, seeds."""

from __future__ import annotations

from dataclasses import dataclass

from instsynth_dagster.settings import FRAME, INSERT, REFINED, Settings

REAL, ZOOM_CROP, COPY_PASTE = "real", "zoom_crop", "copy_paste"
COLOR_JITTER, ORACLE = "color_jitter", "oracle"
"""Controls with other pixels inside the masks: shifted colours, and the demo city rendered again in other colours."""
FROM_SEMANTICS = "from_semantics"
"""The arm of real frames whose instances were separated by SISeg."""
ANONYMISED = "anonymised"
"""The arm of real frames in which every object of chosen classes has lost its pixels, and the prefix of its
artifacts."""
PASTED_INSERT = f"{COPY_PASTE}{INSERT}"
"""The arm of real instances at the same places as the repainted ones of `<generator>_insert`."""
WITHOUT_GENERATOR = (ZOOM_CROP, COPY_PASTE, COLOR_JITTER, ORACLE, PASTED_INSERT)
"""Arms whose samples are made without a generator."""


def cheap_rivals(arm: str) -> tuple[str, ...]:
    """The arms that show what a generator's arm is worth more than other colours, or than real instances pasted, in
    samples of the same kind; none for an arm without a generator.
    """
    if arm.removesuffix(FRAME) in (REAL, FROM_SEMANTICS, ANONYMISED, *WITHOUT_GENERATOR):
        return ()
    if arm.endswith(INSERT):
        return (PASTED_INSERT,)
    return (f"{COLOR_JITTER}{FRAME}",) if arm.endswith(FRAME) else (COLOR_JITTER, COPY_PASTE)


def window_generators(settings: Settings) -> list[str]:
    """Generators whose repaintings become windows: all except one that only anonymises."""
    only = {settings.anonymise.generator} if settings.anonymise else set()
    only -= {generator_of(arm).removesuffix(REFINED).removesuffix(FRAME) for arm in settings.arms}
    return [name for name in settings.generators if name not in only]


def window_arms(settings: Settings) -> list[str]:
    """Sources of synthetic windows: generators, and the other arms with windows that the settings list."""
    others = [arm for arm in settings.arms if arm in WITHOUT_GENERATOR or arm.endswith(INSERT)]
    return [*window_generators(settings), *others]


def painting_arms(settings: Settings) -> list[str]:
    """Arms that generators paint for: `window_generators` in place, and the listed arms `<generator>_insert`."""
    return [*window_generators(settings), *(arm for arm in inserting_arms(settings) if arm != PASTED_INSERT)]


def inserting_arms(settings: Settings) -> list[str]:
    """Arms whose instances are at new places."""
    return [arm for arm in settings.arms if arm.endswith(INSERT)]


def generator_of(arm: str) -> str:
    """The generator of one of the `painting_arms`."""
    return arm.removesuffix(INSERT)


def instances_asset(arm: str) -> str:
    """The asset that holds the instances that an arm repaints, and their places."""
    return "insertions" if arm.endswith(INSERT) else "selected_instances"


def composite_sources(settings: Settings) -> list[str]:
    """Generators and controls whose arm `<name>_frame` is listed, which are integrated as whole frames."""
    return [arm.removesuffix(FRAME) for arm in settings.arms if arm.endswith(FRAME)]


def windows_asset(arm: str) -> str | None:
    """The asset that holds the images of an arm's samples, windows or frames; None where these are the data set's."""
    if arm == ANONYMISED:
        return f"{ANONYMISED}/frames"
    if arm.endswith(FRAME):
        return f"{arm.removesuffix(FRAME)}/composite_frames"
    return None if arm in (REAL, FROM_SEMANTICS) else f"{arm.removesuffix(REFINED)}/is_cityscapes"


def labels_asset(arm: str) -> str | None:
    """The asset that holds other id maps for an arm's samples, row by row; None where the samples' own are used."""
    if arm == FROM_SEMANTICS:
        return "instances_from_semantics"
    return f"{arm.removesuffix(REFINED)}/refined_pseudo_labels" if arm.endswith(REFINED) else None


def window_replicas(settings: Settings) -> int:
    """Windows per instance of the arms without a generator: the greatest number of any generator."""
    return max((generator.replicas for generator in settings.generators.values()), default=1)


@dataclass(frozen=True)
class TrainingSet:
    """An arm on a share of the labelled frames; `name` is its partition key: "real", or "real@10" for 10 %."""

    arm: str
    percent: int = 100

    @property
    def name(self) -> str:
        return self.arm if self.percent == 100 else f"{self.arm}@{self.percent}"

    @classmethod
    def parse(cls, name: str) -> TrainingSet:
        """The training set with a name; inverse of `name`."""
        arm, _, percent = name.partition("@")
        return cls(arm, int(percent or 100))


@dataclass(frozen=True)
class TrainingRun:
    """One training on a training set; `name` is its key in the dimension `run`: "real-s0", "real@10-s0"."""

    data: TrainingSet
    seed: int

    @property
    def name(self) -> str:
        return f"{self.data.name}-s{self.seed}"

    @classmethod
    def parse(cls, name: str) -> TrainingRun:
        """The run with a name; inverse of `name`."""
        data, _, seed = name.rpartition("-s")
        return cls(TrainingSet.parse(data), int(seed))


def training_sets(settings: Settings) -> list[TrainingSet]:
    """Every arm on every share of the labels."""
    return [TrainingSet(arm, percent) for percent in settings.label_percents for arm in settings.arms]


def run_dimensions(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Dimensions of everything that is made for each training run and segmenter."""
    runs = tuple(TrainingRun(data, seed).name for data in training_sets(settings) for seed in settings.training_seeds)
    return {"run": runs, "segmenter": tuple(settings.segmenters)}
