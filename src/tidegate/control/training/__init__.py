"""From data to a registered challenger, and from a drift to the next one."""
