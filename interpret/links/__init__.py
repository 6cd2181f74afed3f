"""Links of a model: summed, placed and written."""
