"""S3: moto's, with the holes closed through which a store loses or garbles objects.

=============  ============================================================================
`checksums`    every algorithm S3 names, and what a request declares of its own body
`integrity`    bodies, owners and uploads against what a request says of them
`models`       one writer at a time for each key, versions that stay, uploads that are known
`operations`   which operation of the API a request is
`reading`      model data, read as SageMaker reads it
`responses`    owner, checksums and conditions are checked before anything changes
`urls`         where moto finds the responses
=============  ============================================================================
"""
