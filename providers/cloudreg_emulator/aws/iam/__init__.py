"""IAM: moto's, with ``SimulatePrincipalPolicy``, which tells a deployer what it may do."""
