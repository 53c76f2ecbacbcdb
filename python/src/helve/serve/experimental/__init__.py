"""The modules of Ray Serve's package of this name that name shipped routing policies."""
