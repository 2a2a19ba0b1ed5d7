"""What the daemon says to an Arvados API."""
