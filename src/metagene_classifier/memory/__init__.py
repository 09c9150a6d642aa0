"""What a run takes of a device's memory, and the plan that fits it."""
