"""A frozen generator as feature extractor, and a decoder that denoises boxes (after DiffusionInst)."""
