"""Training, prediction, FLOPs and timing of any model behind `sinet.contract`."""
