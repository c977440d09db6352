"""Beside Terraform: what it may know of us, take over, and never touch.

=============  ============================================================================
`variables`    models, stages and endpoints, as the variable of a root
`imports`      what was made by hand, as import blocks
`planned`      a plan of Terraform's, read for what cloudreg owns
=============  ============================================================================

The other direction, what Terraform says of the targets, is `cloudreg.outputs`.
"""
