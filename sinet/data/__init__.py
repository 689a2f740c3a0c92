"""Sentences: one format, readers, checks, sources, raw text. Free of torch."""
