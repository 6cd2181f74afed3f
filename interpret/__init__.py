"""What the models learnt."""
