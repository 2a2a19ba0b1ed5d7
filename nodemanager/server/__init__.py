"""The API server: an Arvados-compatible REST service with dispatchers, claims and retries."""
