"""Records in, tables and figures out; nothing is computed here. Free of torch."""
