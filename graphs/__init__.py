"""What a multiome graph is."""
