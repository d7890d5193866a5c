"""Training: the one loop, its objectives, optimizers, schedules and checkpoints."""
