"""Names of the solvers, without torch."""


# ---- The solvers by name, for whoever has to know no more of them

METHODS = ("euler", "midpoint", "heun", "adaptive")
ADAPTIVE = "adaptive"  # chooses its own steps
