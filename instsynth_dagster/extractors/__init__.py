"""Frozen generators as feature extractors, and how to make them smaller."""
