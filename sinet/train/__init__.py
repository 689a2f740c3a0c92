"""Training: the one trainer, its optimiser, schedules, batches and checkpoints."""
