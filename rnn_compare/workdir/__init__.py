"""What lies on disk: runs, checkpoints, TensorBoard's events, and one process at a time."""
