"""Batch schedulers: what one must answer, the modules, and the actor above them all."""
