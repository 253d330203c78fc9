"""FastInst (He et al., CVPR 2023): a real-time query-based segmenter, implemented from the paper."""
