"""Studies: one model trained many times over, under conditions that differ in one thing."""
