"""The ledger is the registry: one new object per entry, put-if-absent, hash-chained.

=================  =========================================================================
`entry`            one entry, its bytes and its hash
`waiver`           for some time, somebody answers for files that a stage would refuse
`seal`             somebody signed a version with a key
`fold`             today's state: what the entries say, applied in order
`checkpoint`       the state so far, kept so that the next reader need not start at entry 0
`reading`          entries as they stand in the store
`gathered`         the newest entries together, so that one request reads them
`log`              reading and appending: the only writer of ``ledger/``
`lease`            an open intent is the mutex of a model: claim, fence, renew, close
`copies`           the home's ledger on other targets, to be read while the home is away
`verify`           whether anything was edited, deleted, reordered, truncated or forked
=================  =========================================================================

Keys in the home's object store::

    ledger/<model>/<thousands>/<seq>.json       the truth; written once, never changed
    checkpoints/<model>/<seq>.json              derived; anchored in the chain by entry seq + 1
    pages/<model>/<sha256>.json                 derived; 256 version summaries each
    digests/<model>/<sha256>                    derived; digest to number
    heads/<model>.json                          derived; a hint at the newest checkpoint
    recent/<model>.jsonl                        derived; the newest entries, where requests count
    models/<model>                              derived; that the model exists
"""

from cloudreg.ledger.entry import Entry
from cloudreg.ledger.fold import Applied, Behind, Fold, Holder, OpenIntent, VersionSummary
from cloudreg.ledger.lease import Lease, Process
from cloudreg.ledger.log import Draft, Ledger, ledger_models
from cloudreg.ledger.seal import Seal
from cloudreg.ledger.verify import Verification, verify
from cloudreg.ledger.waiver import Waiver
from cloudreg.ledger.witness import Witness

__all__ = [
    "Applied",
    "Behind",
    "Draft",
    "Entry",
    "Fold",
    "Holder",
    "Lease",
    "Ledger",
    "OpenIntent",
    "Process",
    "Seal",
    "Verification",
    "VersionSummary",
    "Waiver",
    "Witness",
    "ledger_models",
    "verify",
]
