"""The function that makes a module without its weights: named, copied, imported.

The model server starts elsewhere. It sees the version's ``code/`` folder and what is installed,
and not the folder of the script that trained the model.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from cloudreg.errors import InvalidRequest
from cloudreg.importers.directory import walk


def entrypoint(factory: str | Callable[..., Any]) -> str:
    """Return ``module:function``.

    Raises:
        InvalidRequest: The factory is not at the top of an importable module.
    """
    if isinstance(factory, str):
        return factory
    module, name = getattr(factory, "__module__", None), getattr(factory, "__qualname__", None)
    if not module or not name:
        raise InvalidRequest(f"factory {factory!r} has no name", hint='factory="module:function"')
    if module == "__main__" or not name.isidentifier():
        raise InvalidRequest(
            f"factory {module}:{name} cannot be imported by the model server",
            hint="define it at the top of a module of its own, and list that module in code",
        )
    return f"{module}:{name}"


def copy_code(code: Sequence[Path], dest: Path) -> None:
    """Copy files and packages below *dest*, junk left out.

    Raises:
        InvalidRequest: A name is given twice, or hides one of Python's own modules.
        NotFound: A path leads nowhere.
    """
    for path in map(Path, code):
        name = path.resolve().name
        if name.partition(".")[0] in sys.stdlib_module_names:
            raise InvalidRequest(f"code {name} would hide Python's own module; rename it")
        if (dest / name).exists():
            raise InvalidRequest(f"code {name} is given twice")
        for file in walk(path):
            target = dest / name / file.path if path.is_dir() else dest / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.location, target)


@contextmanager
def imported(entrypoint: str, code: Path) -> Iterator[Callable[..., Any]]:
    """Import the factory as the model server will, and forget it afterwards.

    Raises:
        InvalidRequest: It cannot be imported from *code* and what is installed.
    """
    name, _, attribute = entrypoint.partition(":")
    path, writes = list(sys.path), sys.dont_write_bytecode
    beside = _beside_the_script()
    sys.path[:] = [str(code), *(path if beside is None else path[1:])]
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    tops = {place.stem for place in code.iterdir()} if code.is_dir() else set()
    before = _unload(tops)
    if beside is not None:
        for top in _loaded_from(beside):
            there = _unload({top})
            if importlib.util.find_spec(top) is None:
                before |= there
                tops.add(top)
            else:
                # Installed as well, and so the server finds it.
                sys.modules.update(there)
    try:
        try:
            factory = getattr(importlib.import_module(name), attribute)
        except Exception as error:
            raise InvalidRequest(
                f"factory {entrypoint} cannot be imported: {type(error).__name__}: {error}",
                hint="list the file or package that defines it, and all it needs, in code",
            ) from error
        yield factory
    finally:
        _unload(tops)
        sys.modules.update(before)
        sys.path[:] = path
        sys.dont_write_bytecode = writes


def _beside_the_script() -> Path | None:
    """Return the folder that Python searches first because the script lies there, if any."""
    main = getattr(sys.modules["__main__"], "__file__", None)
    places = {Path.cwd(), Path(main).resolve().parent if main else Path.cwd()}
    first = Path(sys.path[0]).resolve() if sys.path else None
    return first if first in places else None


def _loaded_from(folder: Path) -> list[str]:
    """Return the top names of the modules that were imported from *folder*."""
    return [
        name
        for name, module in list(sys.modules.items())
        if "." not in name
        and name != "__main__"
        and (file := getattr(module, "__file__", None))
        and Path(file).resolve() in (folder / f"{name}.py", folder / name / "__init__.py")
    ]


def _unload(tops: set[str]) -> dict[str, ModuleType]:
    """Remove the modules below these names from Python's memory, and return them."""
    names = [name for name in sys.modules if name.partition(".")[0] in tops]
    return {name: sys.modules.pop(name) for name in names}
