"""The management server: what the daemon is doing, for monitors and operators."""
