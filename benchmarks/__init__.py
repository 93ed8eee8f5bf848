"""Measurements of the server against a floor and against other servers; see README.md."""
