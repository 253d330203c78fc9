"""Segmenters by name."""
