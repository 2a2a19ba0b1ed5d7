"""Nodes on demand: what is wanted, what is there, and what to boot, drain and shut."""
