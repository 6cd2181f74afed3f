"""The parts of a simulated experiment."""
