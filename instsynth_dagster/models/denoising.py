"""The cosine noise schedule of DiffusionDet, DiffusionInst and mask diffusion, with predictions of x0."""

from __future__ import annotations

from typing import Any, Literal

import diffusers


def cosine_schedule(
    signal_scale: float = 1.0,
    *,
    timesteps: int = 1000,
    prediction: Literal["sample", "epsilon"] = "sample",
) -> Any:
    """A `DDIMScheduler` whose first step is at full noise and whose last step returns x0.

    The library's defaults differ: with "leading" spacing a one-step sampler starts without noise, and x0 is clipped to
    1.

    Args:
        signal_scale: x0 lies between plus and minus this value.
    """
    return diffusers.DDIMScheduler(
        num_train_timesteps=timesteps,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=prediction,
        clip_sample=True,
        clip_sample_range=signal_scale,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
