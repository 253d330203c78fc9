"""OneFormer (Jain et al., 2023) from transformers, with this project's inputs, targets and scoring."""
