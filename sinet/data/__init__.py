"""Sentences: one format, where files come from, what they hold. Free of torch."""
