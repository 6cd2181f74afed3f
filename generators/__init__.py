"""How graphs are made."""
