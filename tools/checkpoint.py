"""Read the arrays of a PyTorch checkpoint without running anything that its pickle names."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_TYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


def state_arrays(checkpoint: bytes) -> dict[str, NDArray[Any]]:
    """Read a checkpoint in PyTorch's zip format, or the `state_dict` in it: arrays by name.

    Classes that the pickle names, other than those of tensors, become empty values.
    """
    with zipfile.ZipFile(io.BytesIO(checkpoint)) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        folder = pickled.removesuffix("data.pkl") + "data/"
        reader = _Unpickler(io.BytesIO(archive.read(pickled)))
        reader.read_storage = lambda key: archive.read(folder + key)
        loaded = reader.load()
        state = loaded.get("state_dict", loaded)
    return {name: value for name, value in state.items() if isinstance(value, np.ndarray)}


class _Inert:
    """Stands for an object of a class that is not needed."""

    def __new__(cls, *_: object, **__: object) -> _Inert:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    read_storage: Any

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        return _Inert

    def persistent_load(self, pid: Any) -> NDArray[Any]:
        _, kind, key, _, _ = pid
        return np.frombuffer(self.read_storage(key), kind)


def _tensor(
    storage: NDArray[Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> NDArray[Any]:
    steps = tuple(step * storage.itemsize for step in strides)
    view = np.lib.stride_tricks.as_strided(storage[offset:], shape, steps)
    return np.array(view)
