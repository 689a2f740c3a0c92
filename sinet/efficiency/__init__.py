"""FLOPs, latency, the bench against the bare encoder, and what a grid costs."""
