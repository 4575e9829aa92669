"""Names of the solvers, without torch."""

METHODS = ("euler", "midpoint", "heun", "adaptive")
ADAPTIVE = "adaptive"  # chooses its own steps
