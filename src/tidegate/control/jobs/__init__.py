"""Work in the background, durable on the store. The only place where it starts."""
