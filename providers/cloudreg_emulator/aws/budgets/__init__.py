"""AWS Budgets: moto's, with who is told, and with tags."""
