"""One file per page or group of pages; each gives its routes."""
