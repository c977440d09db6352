"""Bytes by key on any store that obstore speaks to: S3, GCS, and memory for tests.

=============  ============================================================================
`store`        the contract of `cloudreg.provider.ObjectStore` over an obstore store
`staging`      large objects and copies, with what every obstore store can do
`reading`      ranges in order, some of them asked for ahead
`layout`       the files of a version below one prefix, as model servers read them
`records`      what each managed endpoint was asked to be, beside the artifacts
`keys`         what a key is called in the store
`failures`     from obstore's errors to ours
=============  ============================================================================
"""

from cloudreg.names import check_key
from cloudreg.objects.staging import Staging
from cloudreg.objects.store import WHOLE, Large, ObstoreObjects

__all__ = ["WHOLE", "Large", "ObstoreObjects", "Staging", "check_key"]
