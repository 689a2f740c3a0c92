"""SINET and its rivals under one data format, one trainer, one scorer and one clock."""

__version__ = "0.1.0"
