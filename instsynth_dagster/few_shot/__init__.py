"""Few-shot protocols: folds of classes, nested seeded shots, and heads on frozen features."""
