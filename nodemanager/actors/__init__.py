"""Pykka made fit for 100,000 actors: pool, base actor, timer, poll loop, supervision, watchdog."""
