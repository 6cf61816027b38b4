#!/usr/bin/env python3
"""Compares a GGUF file that taipan wrote with the one that it was converted from, bit for bit.

    taipan convert IN.gguf OUT.gguf --to gguf --dtype q8_0
    python3 tools/interchange/check_gguf.py IN.gguf OUT.gguf

Every tensor of OUT must hold the bytes that the Python package gguf makes of IN's values in OUT's type, so that both
our dequantisation and our quantisation are checked. OUT may have other metadata. Exits 1 on a difference.
"""
import sys

import gguf
import numpy as np


def values(tensor):
    shape = [int(size) for size in reversed(tensor.shape)]
    return gguf.dequantize(tensor.data, tensor.tensor_type).reshape(shape).astype(np.float32, copy=False)


def as_bytes(array):
    return np.ascontiguousarray(array).view(np.uint8).ravel()


def main():
    before, after = (gguf.GGUFReader(path) for path in sys.argv[1:3])
    originals = {tensor.name: tensor for tensor in before.tensors}
    different = []
    for tensor in after.tensors:
        original = originals.pop(tensor.name, None)
        if original is None or list(original.shape) != list(tensor.shape):
            different.append(f"{tensor.name}: not in {sys.argv[1]} with this shape")
        elif not np.array_equal(as_bytes(gguf.quantize(values(original), tensor.tensor_type)), as_bytes(tensor.data)):
            different.append(f"{tensor.name}: other bytes than gguf makes of it as {tensor.tensor_type.name}")
    different += [f"{name}: not in {sys.argv[2]}" for name in originals]
    print("\n".join(different[:20] + [f"{len(after.tensors)} tensors compared, {len(different)} differ"]))
    sys.exit(1 if different or not after.tensors else 0)


if __name__ == "__main__":
    main()
