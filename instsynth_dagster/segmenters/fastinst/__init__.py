"""FastInst (He et al., CVPR 2023): a query-based segmenter fast enough for streets, written from the paper."""
