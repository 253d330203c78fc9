"""Pretrained backbones by name, from transformers."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from instsynth_dagster.errors import CheckpointError, reason
from instsynth_dagster.models.sources import load_complete_model, pretrained

NEW_NORMS = "hidden_states_norms."
"""Norms of each output stage of Swin and ConvNeXt backbones; their classifiers lack them, so these weights are new."""
UNLOADABLE = (Exception,)
"""Errors of libraries for a folder or id that they cannot load; damaged files cause nearly any error."""
TRAINING_ONLY = ("model.text_mapper.", "text_mapper.")
"""Prefixes of the names of OneFormer's text branch, which is used in training only and is not saved."""


def load_backbone(source: str) -> Any:
    """The four feature stages of a pretrained backbone, with every weight loaded except those of `NEW_NORMS`.

    Args:
        source: folder or hub id of a classifier, or of a segmenter whose backbone is extracted.

    Raises:
        CheckpointError: it cannot be loaded, or is no backbone.
    """
    name, where = pretrained(source)
    try:
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False, **where)
        if hasattr(config, "backbone_config"):
            segmenter = load_complete_model(
                transformers.AutoModelForUniversalSegmentation,
                name,
                may_miss=TRAINING_ONLY,
                dtype=torch.float32,
                trust_remote_code=False,
                **where,
            )
            return segmenter.model.pixel_level_module.encoder
        if type(config) not in transformers.MODEL_FOR_BACKBONE_MAPPING:
            raise CheckpointError(f"{name}: a {config.model_type} model cannot be used as a backbone")
        # not AutoBackbone.from_pretrained, which contacts the hub even for a local folder
        kind: Any = transformers.MODEL_FOR_BACKBONE_MAPPING[type(config)]
        backbone, report = kind.from_pretrained(
            name,
            out_features=config.stage_names[-4:],
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **where,
        )
    except CheckpointError:
        raise
    except UNLOADABLE as error:
        raise CheckpointError(f"{name}: cannot be loaded as a backbone: {reason(error)}") from None
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(NEW_NORMS))
    if missing:
        raise CheckpointError(f"{name}: weights lack {missing[0]!r} of the backbone")
    return backbone


def backbone_description(backbone: Any) -> dict[str, Any]:
    """The configuration values of a backbone, from which `build_backbone` makes one of the same architecture.

    Left out are its weights, the names of the classes that it was trained on, and its source.
    """
    names = ("id2label", "label2id", "_name_or_path", "architectures", "dtype", "transformers_version")
    return {key: value for key, value in backbone.config.to_dict().items() if key not in names}


def build_backbone(values: dict[str, Any]) -> Any:
    """A backbone with new weights, from a `backbone_description` or from values of any configuration of
    transformers.
    """
    config = transformers.AutoConfig.for_model(**values)
    kind: Any = transformers.MODEL_FOR_BACKBONE_MAPPING[type(config)]
    return kind(config)
