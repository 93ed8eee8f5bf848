"""Tidegate in other people's tools. Each module is imported by those tools alone, and needs them."""
