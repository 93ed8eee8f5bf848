"""What every question shares: subjects, load, measurements, results."""
