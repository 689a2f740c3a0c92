"""The only scorer. Free of torch."""
