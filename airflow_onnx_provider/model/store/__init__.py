"""The store of model versions: addresses, versions, aliases, and what may be removed."""
