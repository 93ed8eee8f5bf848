"""Merges the sources of settings into one ``Settings``, and remembers where every value comes from.

Lowest first: profile defaults, ``tidegate.yaml``, ``.env``, environment, command line.
"""

from __future__ import annotations

from tidegate.config.load import CONFIG_NAME, Loaded, discover, load_section, load_settings, sqlite_url

__all__ = ["CONFIG_NAME", "Loaded", "discover", "load_section", "load_settings", "sqlite_url"]
