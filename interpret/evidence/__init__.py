"""How far links can be believed."""
