"""Training: the engine (solver), one task for it (flow_solver), and what they need: schedule, averages, meters, tracker."""
