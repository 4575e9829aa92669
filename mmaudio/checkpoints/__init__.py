"""What a run leaves to continue from and to generate with: training checkpoints, weights, and their averages."""
