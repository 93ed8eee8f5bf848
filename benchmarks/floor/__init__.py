"""The least a Python server can do for one prediction."""
