"""MaskDiff: a diffusion model of the mask, given the region, its class and K examples of the class."""
