"""A frozen generator as feature extractor, with a decoder that denoises boxes (after DiffusionInst)."""
