"""The only scorer, and what is made of its counts: errors, slices, statistics, records. Free of torch."""
