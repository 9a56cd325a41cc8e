"""Training stages, losses, metrics and the benchmark."""
