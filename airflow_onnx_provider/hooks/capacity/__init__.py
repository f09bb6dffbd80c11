"""What each kind of cluster has free, asked through its own web API."""
