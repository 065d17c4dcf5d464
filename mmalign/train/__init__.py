"""Training: one loop for every method, exact resume, the same numbers on one process or many."""
