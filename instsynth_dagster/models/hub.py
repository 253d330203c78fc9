"""A model hub: the content of a repository, and its files on this machine."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from instsynth_dagster.errors import CheckpointError, reason
from instsynth_dagster.models.references import HubReference
from instsynth_dagster.models.weight_files import needed, weights_by_part


@dataclass(frozen=True)
class Listing:
    """Known facts about a repository at one revision.

    `sizes` maps files to bytes, `digests` maps large files to their sha256. `reached` is False where only the cache was
    used: then `sizes` are the files in the cache, and licence and gating come from the model card.
    """

    commit: str | None
    folder: Path | None
    sizes: dict[str, int]
    digests: dict[str, str]
    licence: str | None
    gated: bool | None
    reached: bool
    refusal: str = ""


def listing(reference: HubReference) -> Listing:
    """A repository as the hub describes it, or as far as the cache holds it where the hub cannot be reached.

    Raises:
        CheckpointError: the hub has no such repository or revision, or refuses access, and the cache does not hold it.
    """
    from huggingface_hub import HfApi

    cached = cached_snapshot(reference)
    try:
        info = HfApi().model_info(reference.name, revision=reference.revision, files_metadata=True)
    except Exception as error:  # the underlying http library has errors of its own
        refusal = _refusal(reference, error)
        if cached is None:
            if _answered(error):
                raise CheckpointError(f"{reference}: {refusal}") from None
            raise CheckpointError(f"{reference}: not in the cache, and {refusal}; {remedy(reference)}") from None
        return _of_cache(cached, refusal)
    files = info.siblings or []
    return Listing(
        commit=info.sha,
        folder=cached if cached is not None and cached.name == info.sha else None,
        sizes={file.rfilename: file.size or 0 for file in files},
        digests={file.rfilename: file.lfs.sha256 for file in files if file.lfs},
        licence=_licence(info.card_data),
        gated=bool(info.gated),
        reached=True,
    )


def snapshot(
    reference: HubReference, variant: str | None = None, parts: Collection[str] | None = None, with_weights: bool = True
) -> Path:
    """A folder with the files needed for loading, downloaded where the cache lacks them.

    The hub is not contacted for a pinned revision that the cache holds completely. The arguments are those of
    `sources.pretrained`.

    Raises:
        CheckpointError: it is not available.
    """
    from huggingface_hub import HfApi

    cached = cached_snapshot(reference)
    if cached is not None and reference.pinned and is_complete(cached, variant, parts):
        return cached
    known = listing(reference)
    if not known.reached:
        assert known.folder is not None
        if with_weights and not is_complete(known.folder, variant, parts):
            partly = f"{reference}: the cache holds it in part only, and {known.refusal}"
            raise CheckpointError(f"{partly}; {remedy(reference)}")
        return known.folder
    wanted = needed(known.sizes, variant, parts, with_weights)
    try:
        return Path(HfApi().snapshot_download(reference.name, revision=reference.revision, allow_patterns=wanted))
    except Exception as error:
        raise CheckpointError(f"{reference}: {_refusal(reference, error)}") from None


def cached_snapshot(reference: HubReference) -> Path | None:
    """The folder of the cache that holds a revision, completely or in part; None where there is none."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = HfApi().snapshot_download(
            reference.name,
            revision=reference.revision,
            local_files_only=True,
            allow_patterns=[],
            cache_dir=constants.HF_HUB_CACHE,
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return Path(folder)


def is_complete(folder: Path, variant: str | None, parts: Collection[str] | None) -> bool:
    """Whether a folder holds weights, and all weights that its configurations need."""
    names = file_names(folder)
    found = weights_by_part(names, variant, parts)
    return bool(found) and None not in found.values()


def file_names(folder: Path) -> list[str]:
    """Files below a folder, links followed, relative to it, without hidden ones."""
    from instsynth_dagster.models.digests import checkpoint_files

    return [path.relative_to(folder).as_posix() for path in checkpoint_files(folder) if path.is_file()]


def _of_cache(folder: Path, refusal: str) -> Listing:
    names = file_names(folder)
    card = folder / "README.md"
    return Listing(
        commit=folder.name,
        folder=folder,
        sizes={name: (folder / name).stat().st_size for name in names},
        digests={},
        licence=card_licence(card),
        gated=None,
        reached=False,
        refusal=refusal,
    )


def card_licence(card: Path) -> str | None:
    """The licence in the front matter of a model card."""
    from huggingface_hub.repocard import metadata_load

    try:
        data = metadata_load(card) if card.is_file() else None
    except Exception:  # a card without readable front matter
        return None
    return str(data.get("license_name") or data.get("license") or "") or None if isinstance(data, dict) else None


def _licence(data: object) -> str | None:
    name, kind = getattr(data, "license_name", None), getattr(data, "license", None)
    return str(name or kind) if name or kind else None


def _answered(error: Exception) -> bool:
    """Whether the hub itself refused."""
    from huggingface_hub.errors import HfHubHTTPError

    return isinstance(error, HfHubHTTPError)


def remedy(reference: HubReference) -> str:
    """The command that fills the cache of the hub, for a line that says what is missing."""
    revision = "" if reference.revision == "main" else f" --revision {reference.revision}"
    return (
        f"nothing that needs it runs until its files are there: .venv/bin/hf download {reference.name}{revision} "
        "where the hub can be reached (HF_HOME names the cache)"
    )


def _refusal(reference: HubReference, error: Exception) -> str:
    """The reason why the hub does not give a repository, with a remedy."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"accept its conditions on the hub's page of {reference.name} and log in (HF_TOKEN)"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the hub has no such repository, or it is private (HF_TOKEN)"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the hub has no revision {reference.revision} of it"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE forbids contacting the hub"
    return f"the hub cannot be reached ({reason(error)})"
