"""Who consumes graph batches."""
