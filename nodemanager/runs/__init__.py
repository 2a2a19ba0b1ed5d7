"""`--run`: submit the container requests of YAML files, follow them, say how they ended."""
