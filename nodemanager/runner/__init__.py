"""What the batch job executes on the node: runs one container and reports to the API."""
