"""The emulated SageMaker runtime: requests reach real model servers, and leave the traces AWS's do.

`models.RuntimeBackend` takes the place of moto's. It asks the control plane for the routes of an
endpoint and sends the request to an instance; CloudWatch metrics, container logs and captured
data follow.
"""
