"""Server-rendered pages on the control port: what is live, who gets the candidate, and why it waits."""

from tidegate.console.mount import mount

__all__ = ["mount"]
