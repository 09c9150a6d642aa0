"""The loop around the model: data, steps, schedule, early stopping, checkpoints and resuming."""
