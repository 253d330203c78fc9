"""Declarations of artifacts: key and partitions, and everything that the body may read.

    @artifact(
        "selected_instances",
        code_version="1",
        dimensions=city_class_dimensions,
        settings=["selection", "classes", "dataset.root"],
        reads=lambda at: [("splits", UNPARTITIONED), ("frames", at["city"]), ("instances", at["city"])],
        group="phase_1",
        kinds={"opencv"},
    )
    def selected_instances(out: PartitionWriter, partition: str, settings: Settings, store: Store, ...) -> Made:

The body is handed a view of the declared settings and a reader of the declared partitions, so what is not declared
cannot be read, and what is declared is hashed. Nothing here imports Dagster: the plan is made without it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from inspect import signature
from pathlib import Path
from typing import Any

from assets.shared.made import Made
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.file_digests import FileDigests
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.data.labels import labels_digest
from instsynth_dagster.errors import Reader
from instsynth_dagster.graph.checkpoints import CheckpointContents
from instsynth_dagster.graph.data import FILE_DIGESTS
from instsynth_dagster.graph.staleness import Asset, PartitionRef
from instsynth_dagster.settings import Settings
from instsynth_dagster.settings.base import Section
from instsynth_dagster.settings.named import kinds as kinds_of
from instsynth_dagster.settings.view import hashed, view

Body = Callable[..., Made | None]

GROUPS = (
    *("data", "phase_1", "phase_2", "phase_3", "anonymisation", "exports", "refinement"),
    *("few_shot", "semantics", "segmentation", "evaluation"),
)
"""Groups of artifacts, in the order in which a refresh comes to them."""

DATASET = "dataset"
"""The resource that reads pixels and holds the label table."""
FRAMES = "frames"
"""The asset whose partitions represent the pixels of a city: declaring one allows reading them."""


@dataclass(frozen=True)
class At:
    """The partition for which a declaration is evaluated; `at["city"]` is its key in a dimension, `member` the
    generator or arm of an artifact that exists once for each.
    """

    settings: Settings
    partition: str
    dimensions: tuple[str, ...]
    member: str = ""

    def __getitem__(self, dimension: str) -> str:
        return self.partition.split("|")[self.dimensions.index(dimension)]


@dataclass(frozen=True)
class Declaration:
    """An artifact as its file declares it, independent of a params file; see `artifact`."""

    key: str
    make: Body
    code_version: str
    dimensions: Callable[[Settings], Mapping[str, Sequence[str]]]
    settings: Callable[[At], Iterable[str]]
    reads: Callable[[At], Iterable[PartitionRef]]
    values: Mapping[str, Callable[[At], Any]]
    files: Callable[[At], Sequence[Path]] | None
    cities: Callable[[At], Iterable[str]]
    members: Callable[[Settings], Iterable[str]]
    group: str
    kinds: frozenset[str]
    checks: Mapping[str, str]
    warnings: Callable[[At], Mapping[str, str]]

    @property
    def module(self) -> str:
        """The module that declares it."""
        return self.make.__module__

    def artifacts(self, settings: Settings, shared: Shared) -> Iterator[Artifact]:
        """The artifacts of a params file from this declaration: none, one, or one for each member."""
        for member in self.members(settings):
            yield Artifact.of(self, settings, member, shared)


def artifact(
    key: str,
    *,
    code_version: str,
    group: str,
    kinds: set[str],
    settings: Sequence[str] | Callable[[At], Iterable[str]] = (),
    reads: Callable[[At], Iterable[PartitionRef]] = lambda at: (),
    dimensions: Callable[[Settings], Mapping[str, Sequence[str]]] = lambda settings: {},
    values: Mapping[str, Callable[[At], Any]] | None = None,
    files: Callable[[At], Sequence[Path]] | None = None,
    cities: Callable[[At], Iterable[str]] = lambda at: (),
    when: Callable[[Settings], Any] = lambda settings: True,
    members: Callable[[Settings], Iterable[str]] | None = None,
    checks: Mapping[str, str] | None = None,
    warnings: Mapping[str, str] | Callable[[At], Mapping[str, str]] | None = None,
) -> Callable[[Body], Declaration]:
    """Declare the function below as the body of an artifact: `make(out, partition, <named arguments>) -> Made | None`.

    The body's arguments after the second are given by name: `settings` and `store` restricted to the declaration,
    `member`, the declared `values`, and resources. Its docstring becomes the artifact's description.

    Args:
        key: asset key; with `members` it starts with "{member}/".
        code_version: to be raised when equal inputs give other content.
        group: one of `GROUPS`.
        kinds: technologies that it uses, for the UI.
        settings: dotted paths into the params file (`settings.view`).
        reads: partitions of other artifacts; a partition of `frames` includes the pixels of its city.
        dimensions: name and keys of each dimension; none: a single partition.
        values: values computed from settings and hashed in their place, by the name of the body's argument.
        files: files of the data set, outside the store, that are read.
        cities: cities whose files of the data set it reads or writes itself, beside those of the frames that it reads.
        when: whether a params file needs the artifact.
        members: names for each of which the artifact exists once.
        checks, warnings: description of each blocking and of each other check that the body reports.
    """

    def declared(make: Body) -> Declaration:
        every = members or (lambda given: [""])
        return Declaration(
            key=key,
            make=make,
            code_version=code_version,
            dimensions=dimensions,
            settings=settings if callable(settings) else lambda at: settings,
            reads=reads,
            values=values or {},
            files=files,
            cities=cities,
            members=lambda given: every(given) if when(given) else (),
            group=group,
            kinds=frozenset(kinds),
            checks=checks or {},
            warnings=warnings if callable(warnings) else lambda at: warnings or {},
        )

    return declared


def all_but(left_out: Collection[str], section: type[Section], place: str) -> list[str]:
    """Paths of all settings of a section at `place` except some."""
    return [f"{place}.{name}" for name in section.model_fields if name not in left_out]


class Shared:
    """Digests of files and checkpoints, each computed once for all artifacts of a params file."""

    def __init__(self, settings: Settings) -> None:
        self.checkpoints = CheckpointContents(settings.artifacts.local)
        self.files = FileDigests(settings.artifacts.local / FILE_DIGESTS)


@dataclass(frozen=True)
class HashedSettings:
    """The contribution of a view of the settings to a fingerprint: JSON values, the content of the checkpoints that it
    names, and the code versions of its sections' kinds.
    """

    settings: Any
    checkpoints: str | None
    versions: list[list[str]]


@dataclass(frozen=True)
class Artifact(Asset):
    """An artifact of one params file: the inputs of staleness, and its body with the data that it may read."""

    declaration: Declaration = field(kw_only=True)
    member: str = field(kw_only=True)
    params: Settings = field(kw_only=True, repr=False)

    @classmethod
    def of(cls, declaration: Declaration, settings: Settings, member: str, shared: Shared) -> Artifact:
        dimensions = declaration.dimensions(settings)
        names = tuple(sorted(dimensions))

        def at(partition: str) -> At:
            return At(settings, partition, names, member)

        # the data set includes its labels
        reads_labels = DATASET in signature(declaration.make).parameters and settings.label_table is not None
        labels = {"labels": labels_digest(settings.labels)} if reads_labels else {}

        @cache
        def held(paths: tuple[str, ...]) -> HashedSettings:
            seen = view(settings, paths)
            versions = sorted([kind, found.CODE_VERSION] for found in kinds_of(seen) for kind in found.own_kinds())
            return HashedSettings(hashed(seen), shared.checkpoints.of(seen), versions)

        def read_settings(partition: str) -> Any:
            scope = at(partition)
            computed = {name: value(scope) for name, value in declaration.values.items()} | labels
            return [held(tuple(declaration.settings(scope))).settings, computed]

        def read_files(partition: str) -> str | None:
            scope = at(partition)
            checkpoints = held(tuple(declaration.settings(scope))).checkpoints
            if declaration.files is None:
                return checkpoints
            signed = shared.files.signature(list(declaration.files(scope)), settings.dataset.root)
            return f"{signed} {checkpoints}" if checkpoints else signed

        return cls(
            key=declaration.key.format(member=member),
            code_version=declaration.code_version,
            dimensions=dimensions,
            settings=read_settings,
            upstream=lambda partition: declaration.reads(at(partition)),
            files=read_files,
            versions=lambda partition: held(tuple(declaration.settings(at(partition)))).versions,
            declaration=declaration,
            member=member,
            params=settings,
        )

    @property
    def file(self) -> str:
        """The path, for messages, of the file that declares it."""
        return "/".join(Path(self.declaration.make.__code__.co_filename).parts[-2:])

    @cached_property
    def resources(self) -> list[str]:
        """Names of the resources among the body's arguments."""
        asked = list(signature(self.declaration.make).parameters)[2:]
        return [name for name in asked if name not in {"settings", "member", *self.declaration.values}]

    @property
    def warnings(self) -> Mapping[str, str]:
        """Descriptions of its checks that do not block."""
        return self.declaration.warnings(At(self.params, "", (), self.member))

    def arguments(self, partition: str, resources: Mapping[str, Any]) -> dict[str, Any]:
        """The body's arguments for a partition: settings and readers bound to the declaration, values, resources."""
        scope = At(self.params, partition, tuple(sorted(self.dimensions)), self.member)
        reader = Reader(self.key, partition, self.file)
        given = {name: value(scope) for name, value in self.declaration.values.items()}
        for name in signature(self.declaration.make).parameters:
            if name == "settings":
                given[name] = view(self.params, self.declaration.settings(scope), reader)
            elif name == "member":
                given[name] = self.member
            elif name in resources:
                given[name] = self._bound(resources[name], scope, reader)
        return given

    def _bound(self, resource: Any, at: At, reader: Reader) -> Any:
        if isinstance(resource, Store):
            return DeclaredStore(resource, reader, self.upstream(at.partition))
        if hasattr(resource, "of_cities"):
            cities = {partition for asset, partition in self.upstream(at.partition) if asset == FRAMES}
            return resource.of_cities({*cities, *self.declaration.cities(at)}, reader)
        return resource
