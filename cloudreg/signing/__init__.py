"""Signatures of versions: OpenSSF model signing, made and verified offline with a key.

=============  ============================================================================
`keys`         elliptic-curve keys from PEM files; what signs stays inside one object
`bundle`       what is signed, and the file that carries the signature
`stored`       where signatures stand in a target's store, and in a downloaded folder
=============  ============================================================================

The format is that of the reference library (https://github.com/sigstore/model-transparency): a
Sigstore bundle v0.3 with a DSSE envelope around an in-toto statement that lists every file with
its sha256. Either verifies what the other one made.

`cryptography` is imported where a key is used, and not before.
"""

from cloudreg.signing.bundle import BUNDLE_FILE, Signed, make, verify
from cloudreg.signing.keys import PublicKey, SigningKey
from cloudreg.signing.stored import bundle_key, get_bundle, put_bundle

__all__ = [
    "BUNDLE_FILE",
    "PublicKey",
    "Signed",
    "SigningKey",
    "bundle_key",
    "get_bundle",
    "make",
    "put_bundle",
    "verify",
]
