"""Other servers, each in its own environment, with the same models."""
