"""What a file of a version is: by its content first, by its name second.

==========  ================================================================================
`classify`  what one file is
`packed`    what archives, compressed files and arrays hold
`pickles`   what a pickle would import and call, worked out from its opcodes
`ranges`    a file that is read in ranges, and what hostile bytes raise
==========  ================================================================================

Only heads, tails, directories of archives and opcodes are read; no file is ever held as a whole,
and nothing is loaded, unpickled or unpacked. A name proves nothing: a pickle is found whatever it
is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cloudreg.errors import InvalidRequest

REFUSED: Mapping[str, str] = {
    "pickle": "convert the weights to safetensors, and arrays to .npy without objects",
    "unsafe-pickle": "convert the weights to safetensors, and arrays to .npy without objects",
    "torchscript": "keep the weights as safetensors and the module in code/, or export it to ONNX",
    "pt2": "keep the weights as safetensors and the module in code/, or export it to ONNX",
    "mar": "unpack it, and keep its weights as safetensors or ONNX",
    "compiled": "keep the source in code/, and what is compiled in the image",
    "unknown": "register what is in it as safetensors, ONNX or plain files",
}
"""Formats whose readers can run what is in a file, and the way out of each.

``pickle`` imports nothing beyond `pickles.ALLOWED`; ``unsafe-pickle`` does, or could not be
followed to its end; ``unknown`` could hold any of the others, and cannot be looked into.
"""

ACCEPTED = ("safetensors", "onnx", "array", "code", "text", "data")
"""Formats that are data for every reader; ``code`` is Python source, ``data`` is anything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one file is.

    Attributes:
        path: The file.
        format: A key of `REFUSED`, or one of `ACCEPTED`.
        found: What in it speaks against it, in people's words.
    """

    path: str
    format: str
    found: tuple[str, ...] = ()


def check_format(name: str) -> str:
    """Return *name* if files of that format are refused without a waiver.

    Raises:
        InvalidRequest: It needs none, or is no format.
    """
    if name not in REFUSED:
        needless = f"{name} needs no waiver" if name in ACCEPTED else f"no format {name[:40]!r}"
        raise InvalidRequest(needless, hint=f"waived can be {', '.join(REFUSED)}")
    return name
