"""What systems share (spans, pairs, attention), and SINET itself."""
