"""Training: the loop (`trainer`), what a task says (`solver`), the flow task (`flow_solver`), and what they need of a run."""
