"""How matrices, tables and labels lie in files."""
