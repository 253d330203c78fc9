"""Where weights come from: a folder, or a hub repository that may be pinned to a revision."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.models.digests import verified

OWN_LIBRARIES = ("diffusers", "transformers")
"""Whose classes a diffusers folder may ask for."""

_HUB_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)


def pretrained(source: str | Path) -> tuple[str, dict[str, Any]]:
    """Name and keywords for a `from_pretrained`.

    Args:
        source: `folder`, `folder@sha256:digest`, `owner/name` or `owner/name@revision`; a folder is never looked up on
            the hub.

    Raises:
        CheckpointError: the folder's content is not the one that is pinned or listed (see `checkpoint_digests`).
    """
    folder = verified(source)
    if folder is not None and not folder.is_dir():
        raise CheckpointError(f"{folder}: not a folder")
    if folder is not None:
        return str(folder), {"local_files_only": True, "revision": "main"}
    name, _, revision = str(source).partition("@")
    if not _HUB_ID.fullmatch(name):
        raise CheckpointError(f"{name}: no such folder, and no id of a model hub either (owner/name)")
    return name, {"local_files_only": False, "revision": revision or "main"}


def trained_folder(source: str | Path) -> Path:
    """A checkpoint folder of this project's own, its content checked.

    Raises:
        CheckpointError: it is not there, or its content is not the one that is pinned or listed.
    """
    folder = verified(source)
    if folder is None or not folder.is_dir():
        raise CheckpointError(f"{source}: no such folder")
    return folder


def pipeline_index(source: str | Path) -> dict[str, Any]:
    """The model_index.json of a diffusers folder or hub id.

    Raises:
        CheckpointError: it asks for code from elsewhere than diffusers and transformers.
        OSError, ValueError: it cannot be read.
    """
    from diffusers import DiffusionPipeline

    name, where = pretrained(source)
    index: dict[str, Any] = DiffusionPipeline.load_config(name, **where)
    if not isinstance(index.get("_class_name"), str):
        raise CheckpointError(f"{name}: model_index.json asks for a pipeline of its own code, which is not run")
    for part, asked in index.items():
        if isinstance(asked, list) and asked and asked[0] not in (None, *OWN_LIBRARIES):
            raise CheckpointError(
                f"{name}: model_index.json asks for {part} from {asked[0]!r}, which is not run; "
                f"only {' and '.join(OWN_LIBRARIES)} are"
            )
    return index


def whole_model(kind: Any, name: str, *, may_miss: tuple[str, ...] = (), **options: Any) -> Any:
    """`kind.from_pretrained` from safetensors; libraries fill up missing weights with random ones, this does not.

    Args:
        may_miss: beginnings of the names of weights that a checkpoint need not have.

    Raises:
        ValueError: the checkpoint lacks weights or its configuration; further what the library raises.
    """
    folder = Path(name, options.get("subfolder", ""))
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no config.json")
    model, report = kind.from_pretrained(name, use_safetensors=True, output_loading_info=True, **options)
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(may_miss or ("\0",)))
    if missing:
        raise ValueError(f"its weights lack {missing[0]!r}")
    return model


def whole_tokenizer(kind: Any, name: str, **options: Any) -> Any:
    """`kind.from_pretrained`; libraries make an empty tokenizer where its files are missing, this does not.

    Raises:
        ValueError: it knows no words; further what the library raises.
    """
    return checked_tokenizer(kind.from_pretrained(name, **options))


def checked_tokenizer(tokenizer: Any) -> Any:
    """The tokenizer, if it knows more than its special tokens; ValueError where it does not."""
    if len(tokenizer.get_vocab()) <= len(tokenizer.all_special_tokens):
        raise ValueError("its tokenizer knows no words")
    return tokenizer


_TELL_OF_RANDOM_WEIGHTS = ("diffusers.models.modeling_utils", "transformers.modeling_utils")
_WORDS = ("newly initialized", "MISSING")


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def nothing_made_up() -> Iterator[None]:
    """Around the loading of a whole pipeline, whose parts do not report what they lack but in their logs.

    Raises:
        ValueError: weights were filled up with random ones.
    """
    heard, loggers = _Heard(), [logging.getLogger(name) for name in _TELL_OF_RANDOM_WEIGHTS]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        logger.addHandler(heard)
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(heard)
            logger.setLevel(level)
            logger.propagate = propagate
    for message in heard.messages:
        if any(word in message for word in _WORDS):
            raise ValueError(f"its weights are not complete: {message}")
