"""What each command does; the only place that sees all rooms."""
