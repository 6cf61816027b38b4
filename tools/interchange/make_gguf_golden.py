#!/usr/bin/env python3
"""Writes tests/golden/gguf/types.gguf with the Python package gguf: what our reader and quantiser must reproduce.

    python3 tools/interchange/make_gguf_golden.py tests/golden/gguf/types.gguf

The metadata hold a value of every type and four arrays. For every tensor type T there is T.stored, and T.values with
the F32 numbers that gguf makes of it; `input` is what gguf made T.stored of, where it can.
"""
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType as Value

QUANTIZED_BY_GGUF = [Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.F16, Type.BF16]
# Blocks that gguf reads but does not make: (type, byte offsets of the f16 scales in a block).
RANDOM_BLOCKS = [
    (Type.Q2_K, [80, 82]), (Type.Q3_K, [108]), (Type.Q4_K, [0, 2]), (Type.Q5_K, [0, 2]), (Type.Q6_K, [208]),
    (Type.IQ4_NL, [0]), (Type.IQ4_XS, [0]), (Type.MXFP4, [])]


def stored(values, kind):
    """`values` [rows, cols] as bytes [rows, bytes of a row], and as the numbers that gguf reads from them."""
    packed = gguf.quantize(values, kind)
    if packed.dtype != np.uint8:
        packed = packed.view(np.uint8)
    return packed, gguf.dequantize(packed, kind)


def random_blocks(rng, kind, scales, rows=2):
    size = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = rng.integers(0, 256, (rows, size), dtype=np.uint8)
    for at in scales:
        blocks[:, at : at + 2] = rng.normal(0, 0.02, (rows, 1)).astype(np.float16).view(np.uint8)
    return blocks, gguf.dequantize(blocks, kind)


def inputs(rng):
    """Rows of 64: random; halves that round away from zero; zeros and the smallest; wide range; powers of two."""
    ties = (np.arange(64) - 32 + 0.5).astype(np.float32)
    ties[0] = -127.0  # the scale is 1
    small = np.zeros(64, np.float32)
    small[32:] = np.float32(1e-30) * np.arange(32, dtype=np.float32)
    small[::7] = -0.0
    return np.stack([
        rng.normal(0, 1, 64), ties, small, rng.normal(0, 1, 64) * 10.0 ** rng.integers(-9, 5, 64),
        np.ldexp(1.0, rng.integers(-24, 15, 64)) * rng.choice([-1, 1], 64)]).astype(np.float32)


def add_metadata(writer):
    numbers = {
        Value.UINT8: 250, Value.INT8: -100, Value.UINT16: 65000, Value.INT16: -30000, Value.UINT32: 4000000000,
        Value.INT32: -2000000000, Value.FLOAT32: 0.25, Value.UINT64: 2**63 + 1, Value.INT64: -(2**62),
        Value.FLOAT64: 1e300,
    }
    for kind, value in numbers.items():
        writer.add_key_value(f"test.{kind.name.lower()}", value, kind)
    writer.add_bool("test.bool", True)
    writer.add_string("test.string", "caf\u00e9 \u2603\n\"q\"")
    writer.add_array("test.strings", ["a", "", "\u00e9", "longer than the others"])
    writer.add_array("test.ints", [-3, 0, 7])
    writer.add_array("test.floats", [0.5, -1.25, 1e10])
    writer.add_array("test.bools", [True, False, True])


def main():
    rng = np.random.default_rng(17)
    writer = gguf.GGUFWriter(sys.argv[1], "test")
    add_metadata(writer)
    values = inputs(rng)
    writer.add_tensor("input", values)
    for kind in QUANTIZED_BY_GGUF:
        packed, read = stored(values, kind)
        writer.add_tensor(f"{kind.name}.stored", packed, raw_dtype=kind)
        writer.add_tensor(f"{kind.name}.values", np.ascontiguousarray(read))
    for kind, scales in RANDOM_BLOCKS:
        packed, read = random_blocks(rng, kind, scales)
        writer.add_tensor(f"{kind.name}.stored", packed, raw_dtype=kind)
        writer.add_tensor(f"{kind.name}.values", np.ascontiguousarray(read))
    writer.add_tensor("cube", np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
