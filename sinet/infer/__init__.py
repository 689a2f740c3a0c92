"""Inference with a trained run: predictions, raw text, attention, drawing; exchange with released weights."""
