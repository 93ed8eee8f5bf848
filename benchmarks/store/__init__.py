"""How much the store takes, and how fast it answers when it is full."""
