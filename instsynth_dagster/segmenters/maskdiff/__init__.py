"""MaskDiff: a diffusion model of the mask, conditioned on the region, its class and K examples of the class."""
