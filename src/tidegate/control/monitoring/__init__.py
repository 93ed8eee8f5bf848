"""Watching: profiles of what was asked and answered, drift, quality of data, quality of predictions, alerts."""
