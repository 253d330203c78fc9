"""Integration by whole frames: all accepted repaintings of a frame pasted in at once, at their own scale.

The alternative to the paper's focused windows: nothing is enlarged, and one sample holds as many repainted instances as
its frame has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from instsynth_dagster.data.images import decode_ids, encoded_sample
from instsynth_dagster.settings import IntegrationSettings
from instsynth_dagster.synthesis.integration import outside_difference, paste_row


def composite_frame_id(city: str, index: int, slot: int) -> str:
    """Name of a composite frame, unique in an export and in the form that the official Cityscapes tools parse."""
    return f"{city}syn_{index:06}_{slot:06}"


def composite_frame(
    image: np.ndarray,
    ids: np.ndarray,
    frame_id: str,
    slot: int,
    rows: Sequence[Mapping[str, Any]],
    settings: IntegrationSettings,
) -> dict[str, Any] | None:
    """A frame with the accepted repaintings of one slot pasted in; None where there is none.

    Args:
        image, ids: the frame, uint8 (H, W, 3) and int32 (H, W).
        frame_id: the name of the composite.
        slot: index among the repaintings of each instance, see `gates.choose_crops`.
        rows: rows of `synthetic_windows.repainted_instances` of this frame; those of other slots are ignored.

    Returns:
        A row: image_png (in the format `settings.stored_as`) and ids_png at the size of the frame, with the ids of the
        source; lists of the repainted instances (instance_ids, class_names, prompts, seeds); outside_difference, the
        largest difference to the source outside all masks, and changed_ids, the number of pixels with another id, both
        0 by construction.
    """
    accepted = [row for row in rows if row["slot"] == slot and row["repainted_png"] is not None]
    if not accepted:
        return None
    composite, painted = image, np.zeros(ids.shape, bool)
    for row in sorted(accepted, key=lambda row: str(row["instance_id"])):
        composite = paste_row(composite, row, settings)
        painted |= ids == int(row["value"])
    stored = encoded_sample(composite, ids, settings.stored_as)
    return {
        "frame_id": frame_id,
        "instance_id": accepted[0]["frame_id"],
        "source_frame": accepted[0]["frame_id"],
        "source_sha256": accepted[0]["source_sha256"],
        "slot": slot,
        "generator": accepted[0]["generator"],
        "instance_ids": [row["instance_id"] for row in accepted],
        "class_names": [row["class_name"] for row in accepted],
        "prompts": [str(row.get("prompt", "")) for row in accepted],
        "seeds": [int(row.get("seed", 0)) for row in accepted],
        "outside_difference": outside_difference(image, composite, painted),
        "changed_ids": int((decode_ids(stored["ids_png"]) != ids).sum()),
        **stored,
    }
