"""CloudWatch: moto's, with percentiles."""
