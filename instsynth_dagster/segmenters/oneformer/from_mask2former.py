"""Initialisation of a OneFormer from a Mask2Former: same backbone, pixel decoder and decoder layers, under
other names.
"""

from __future__ import annotations

import re

import transformers
from torch import Tensor

from instsynth_dagster.segmenters.shared.transformers_models import load_pretrained

_RENAMED = (
    (r"decoder\.layers\.(\d+)\.cross_attn\.", r"decoder.layers.\1.cross_attn.multihead_attn."),
    (r"decoder\.layers\.(\d+)\.cross_attn_layer_norm\.", r"decoder.layers.\1.cross_attn.norm."),
    (r"decoder\.layers\.(\d+)\.self_attn\.", r"decoder.layers.\1.self_attn.self_attn."),
    (r"decoder\.layers\.(\d+)\.self_attn_layer_norm\.", r"decoder.layers.\1.self_attn.norm."),
    (r"decoder\.layers\.(\d+)\.fc(\d)\.", r"decoder.layers.\1.ffn.linear\2."),
    (r"decoder\.layers\.(\d+)\.final_layer_norm\.", r"decoder.layers.\1.ffn.norm."),
    (r"decoder\.layernorm\.", r"decoder.decoder_norm."),
    (r"decoder\.mask_predictor\.mask_embedder\.", r"decoder.mask_embed.layers."),
)
_TRANSFORMER = "model.transformer_module."


def mask2former_weights(source: str) -> dict[str, Tensor]:
    """Weights of a Mask2Former folder or hub id under OneFormer's names, without class heads and losses.

    Raises:
        CheckpointError: it cannot be loaded as Mask2Former.
    """
    found = load_pretrained(transformers.Mask2FormerForUniversalSegmentation, source).state_dict()
    return {_renamed(name): value for name, value in found.items() if name.startswith("model.")}


def _renamed(name: str) -> str:
    if name.startswith(_TRANSFORMER):
        for old, new in _RENAMED:
            name = re.sub(old, new, name)
    return name
