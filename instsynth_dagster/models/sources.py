"""Sources of weights: a folder, or a hub repository that may be pinned to a revision."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.models.conversion import converted, converted_folder, torch_files
from instsynth_dagster.models.digests import file_digest, verified
from instsynth_dagster.models.hub import file_names, snapshot
from instsynth_dagster.models.references import CONVERT, hub_reference, without_mark
from instsynth_dagster.models.weight_files import NEVER_LOADED, weights_of

ALLOWED_LIBRARIES = ("diffusers", "transformers")
"""Libraries whose classes the model_index.json of a diffusers folder may name."""

_log = logging.getLogger(__name__)
_WHERE: dict[str, Any] = {"local_files_only": True, "revision": "main"}


def pretrained(
    source: str | Path,
    *,
    variant: str | None = None,
    parts: Collection[str] | None = None,
    with_weights: bool = True,
    weights: Mapping[str, str] | None = None,
) -> tuple[str, dict[str, Any]]:
    """Folder and keyword arguments for a `from_pretrained`; files of a hub are downloaded to its cache first.

    Args:
        source: `folder`, `folder@sha256:digest`, `owner/name` or `owner/name@revision`, each with the suffix `+convert`
            where torch files may be converted to safetensors. A source in the form of a path is never looked up on the
            hub.
        variant: variant of the weights, such as `fp16`.
        parts: folders of a diffusers pipeline that will be read; default: all that are ever loaded.
        with_weights: False where only a tokenizer or a configuration is needed.
        weights: sha256 that files of the checkpoint must have.

    Raises:
        CheckpointError: it is missing, its content differs from what is pinned, listed or named in `weights`, or its
            weights are torch files and no conversion was requested.
    """
    name, convert = without_mark(source)
    folder = verified(name)
    if folder is not None and not folder.is_dir():
        raise CheckpointError(f"{folder}: not a folder")
    if folder is None:
        reference = hub_reference(source)
        folder = snapshot(reference, variant, parts, with_weights)
        if not reference.pinned:
            _log.info("%s: %s is at %s", reference.name, reference.revision, folder.name)
    for file, digest in (weights or {}).items():
        _check(name, folder / file, digest)
    return str(_as_safetensors(name, folder, variant, parts, convert) if with_weights else folder), dict(_WHERE)


def _check(source: str, path: Path, digest: str) -> None:
    if not path.is_file():
        raise CheckpointError(f"{source}: lacks {path.name}, which weights names")
    if file_digest(path) != digest:
        raise CheckpointError(f"{source}: holds other weights: the sha256 of {path.name} is not that of weights")


def _as_safetensors(
    source: str, folder: Path, variant: str | None, parts: Collection[str] | None, convert: bool
) -> Path:
    """The folder itself, or its conversion where the weights to be read are torch files."""
    names = file_names(folder)
    files = torch_files(names, variant, parts)
    if not files:
        return folder
    if convert or converted_folder(folder, files).is_dir():
        return converted(folder, names, variant, parts)
    raise CheckpointError(
        f"{source}: its weights are torch files ({files[0]}); write {source}{CONVERT} to have them converted to "
        f"safetensors once, or run python -m instsynth_dagster.models.conversion {source}"
    )


def trained_folder(source: str | Path) -> Path:
    """A checkpoint folder of this project, its content checked.

    Raises:
        CheckpointError: it is missing, or its content differs from what is pinned or listed.
    """
    folder = verified(source)
    if folder is None or not folder.is_dir():
        raise CheckpointError(f"{source}: no such folder")
    return folder


def pipeline_index(source: str | Path) -> dict[str, Any]:
    """The model_index.json of a diffusers folder or hub id.

    Raises:
        CheckpointError: it names code from other libraries than diffusers and transformers in a part that is ever
            loaded.
        OSError, ValueError: it cannot be read.
    """
    from diffusers import DiffusionPipeline

    name, where = pretrained(source, with_weights=False)
    index: dict[str, Any] = DiffusionPipeline.load_config(name, **where)
    if not isinstance(index.get("_class_name"), str):
        raise CheckpointError(f"{name}: model_index.json names custom pipeline code, which is not run")
    for part, asked in index.items():
        if part in NEVER_LOADED or not isinstance(asked, list) or not asked:
            continue
        if asked[0] not in (None, *ALLOWED_LIBRARIES):
            raise CheckpointError(
                f"{name}: model_index.json names {part} from {asked[0]!r}, which is not run; "
                f"only {' and '.join(ALLOWED_LIBRARIES)} are"
            )
    return index


def load_complete_pipeline(
    kind: Any,
    source: str,
    *,
    dtype: Any,
    variant: str | None = None,
    weights: Mapping[str, str] | None = None,
    further: Mapping[str, Any] | None = None,
) -> Any:
    """A pipeline from `kind.from_pretrained`, each of its models loaded by `load_complete_model`.

    The library fills missing weights with random values; here they are an error.

    Args:
        kind: a pipeline class of diffusers.
        further: models by the name of a part, loaded from elsewhere; they take the place of the checkpoint's own.

    Raises:
        CheckpointError: see `pretrained` and `pipeline_index`.
        ValueError: a model lacks weights or its configuration, or a tokenizer has no vocabulary. Errors of the library
            are passed on.
    """
    index = pipeline_index(source)
    name, where = pretrained(source, variant=variant, weights=weights)
    takes = inspect.signature(kind.__init__).parameters
    given: dict[str, Any] = {part: None for part in NEVER_LOADED if part in takes} | dict(further or {})
    if "requires_safety_checker" in takes:
        given["requires_safety_checker"] = False
    names = file_names(Path(name))
    for part, asked in index.items():
        if part in takes and part not in given and _is_model(asked):
            found = weights_of(names, part, variant)
            given[part] = load_complete_model(
                getattr(import_module(asked[0]), asked[1]),
                name,
                subfolder=part,
                variant=found.variant if found else None,
                dtype=dtype,
                **where,
            )
    pipeline = kind.from_pretrained(name, use_safetensors=True, **where, **given)
    for part in pipeline.components.values():
        if hasattr(part, "get_vocab"):
            checked_tokenizer(part)
    return pipeline


def _is_model(asked: Any) -> bool:
    """Whether an entry of a model_index.json names a network class of the allowed libraries."""
    from torch import nn

    if not isinstance(asked, list) or len(asked) != 2 or asked[0] not in ALLOWED_LIBRARIES:
        return False
    kind = getattr(import_module(asked[0]), str(asked[1]), None)
    return isinstance(kind, type) and issubclass(kind, nn.Module)


def load_complete_model(kind: Any, name: str, *, may_miss: tuple[str, ...] = (), **options: Any) -> Any:
    """A model from `kind.from_pretrained`, read from safetensors. The library fills missing weights with random values;
    here they are an error.

    Args:
        may_miss: prefixes of the names of weights that a checkpoint need not have.

    Raises:
        ValueError: the checkpoint lacks weights or its configuration. Errors of the library are passed on.
    """
    folder = Path(name, options.get("subfolder", ""))
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no config.json")
    model, report = kind.from_pretrained(name, use_safetensors=True, output_loading_info=True, **options)
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(may_miss or ("\0",)))
    if missing:
        raise ValueError(f"its weights lack {missing[0]!r}")
    return model


def load_complete_tokenizer(kind: Any, name: str, **options: Any) -> Any:
    """A tokenizer from `kind.from_pretrained`. The library makes an empty one where its files are missing; here that is
    an error.

    Raises:
        ValueError: it has no vocabulary. Errors of the library are passed on.
    """
    return checked_tokenizer(kind.from_pretrained(name, **options))


def checked_tokenizer(tokenizer: Any) -> Any:
    """The tokenizer, checked to have a vocabulary.

    Raises:
        ValueError: it knows only its special tokens.
    """
    if len(tokenizer.get_vocab()) <= len(tokenizer.all_special_tokens):
        raise ValueError("its tokenizer knows no words")
    return tokenizer
