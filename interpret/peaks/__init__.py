"""What annotators read cell types from."""
