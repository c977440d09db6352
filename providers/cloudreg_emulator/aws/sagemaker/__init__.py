"""The emulated SageMaker control plane: registry, hosting, deployments, inference components.

`models.backend_of` makes the backend that takes the place of moto's; what moto emulates beside
(notebooks, pipelines, training jobs) stays as it is.
"""
