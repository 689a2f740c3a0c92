"""Pretrained encoders: where their files lie, what they read of a sentence, and their fast form for inference."""
