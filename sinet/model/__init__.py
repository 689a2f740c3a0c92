"""Encoders, span arithmetic and SINET itself."""
