"""The module for Slurm; `scheduler` is its front, everything else answers one question each."""
