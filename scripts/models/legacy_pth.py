"""Reads a PyTorch checkpoint of the old kind (before 1.6, no zip) without PyTorch: name -> numpy array.

Layout: three pickles (magic number, protocol, machine facts), then the pickled dictionary whose tensors refer to storages by key,
then the pickled list of keys, then for each key an int64 element count and the raw elements. Unpickling is restricted to the four
globals that such a file needs; a file that names another is refused, so a checkpoint cannot run code here.
"""

import collections
import pickle

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
STORAGE_DTYPES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
}


class Storage:
    """A flat run of elements; they are read after the dictionary that refers to it."""

    def __init__(self, dtype, count):
        self.dtype = np.dtype(dtype)
        self.count = count
        self.elements = None


class TensorRef:
    """A strided window on a storage (offset and strides in elements)."""

    def __init__(self, storage, offset, shape, strides):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self):
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides))
        if self.offset < 0 or last >= self.storage.count or any(s < 0 for s in self.strides):
            raise ValueError(f"a tensor of shape {self.shape} reaches beyond its storage")
        strides = [s * self.storage.dtype.itemsize for s in self.strides]
        window = np.lib.stride_tricks.as_strided(self.storage.elements[self.offset :], self.shape, strides)
        return np.ascontiguousarray(window)


class RestrictedUnpickler(pickle.Unpickler):
    def __init__(self, file, storages):
        super().__init__(file)
        self.storages = storages

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: TensorRef(storage, offset, shape, strides)
        if module == "torch" and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        raise pickle.UnpicklingError(f"the checkpoint names {module}.{name}, which is not allowed")

    def persistent_load(self, pid):
        kind, dtype, key, _device, count = pid[:5]
        if kind != "storage":
            raise pickle.UnpicklingError(f"unknown persistent object {kind!r}")
        return self.storages.setdefault(key, Storage(dtype, count))


def load(path):
    storages = {}
    with open(path, "rb") as file:
        def read():
            return RestrictedUnpickler(file, storages).load()

        if read() != MAGIC or read() != PROTOCOL:
            raise ValueError(f"{path} is not a PyTorch checkpoint of the old kind")
        read()  # facts of the machine that wrote it
        tensors = read()
        for key in read():
            storage = storages[key]
            count = int(np.fromfile(file, np.int64, 1)[0])
            if count != storage.count:
                raise ValueError(f"{path}: storage {key} holds {count} elements, {storage.count} were declared")
            storage.elements = np.fromfile(file, storage.dtype, count)
    return {name: tensor.array() for name, tensor in tensors.items()}
