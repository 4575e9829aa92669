"""The method's mathematics: the path from noise to data, its times, the loss, guidance and the solvers."""
