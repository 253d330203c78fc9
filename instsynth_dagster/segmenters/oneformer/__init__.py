"""OneFormer (Jain et al., 2023) from transformers, with our own inputs, targets and scoring."""
