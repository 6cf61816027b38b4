#!/usr/bin/env python3
"""Writes a model of bench/models as a GGUF file with random weights and no vocabulary, to time llama.cpp with.

Matrices are bf16; what llama.cpp's own converter leaves in f32 (norms, biases, A, D, dt, convolution) is f32 here too.
The values are those of a fresh model (normal, deviation 0.02; dt between 0.001 and 0.1): nothing denormal or infinite
that would slow or speed a run.
"""
import argparse
import sys

import model_file

try:
    import gguf
    import numpy as np
except ImportError as error:
    sys.exit(f"error: {error.name} is missing in {sys.executable}: scripts/compare.sh sets an environment up")

DEVIATION = 0.02
MAX_CONTEXT = 1 << 20  # tokens


class Writer:
    """A GGUF file in the making; counts parameters."""

    def __init__(self, path, kind, seed):
        self.file = gguf.GGUFWriter(path, kind)
        self.random = np.random.default_rng(seed)
        self.parameters = 0

    def matrix(self, name, rows, columns):
        values = self.random.standard_normal((rows, columns), dtype=np.float32) * DEVIATION
        bf16 = gguf.GGMLQuantizationType.BF16
        self.file.add_tensor(name, gguf.quants.quantize(values, bf16), raw_dtype=bf16)
        self.parameters += values.size

    def exact(self, name, values):
        values = np.ascontiguousarray(values, dtype=np.float32)
        self.file.add_tensor(name, values)
        self.parameters += values.size

    def close(self):
        self.file.write_header_to_file()
        self.file.write_kv_data_to_file()
        self.file.write_tensors_to_file()
        self.file.close()


def write_common(out, model):
    file = out.file
    file.add_name(model.name)
    file.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    file.add_tokenizer_model("no_vocab")
    file.add_vocab_size(model.vocab)
    file.add_context_length(MAX_CONTEXT)
    file.add_embedding_length(model.width)
    file.add_block_count(model.layers)
    file.add_layer_norm_rms_eps(model.norm_eps)
    out.matrix("token_embd.weight", model.vocab, model.width)
    out.exact("output_norm.weight", np.ones(model.width))
    if not model.tied:
        out.matrix("output.weight", model.vocab, model.width)


def write_mamba2(out, model):
    file, inner, heads, channels = out.file, model.inner, model.ssm_heads, model.conv_channels
    file.add_feed_forward_length(0)
    file.add_head_count(0)
    file.add_ssm_conv_kernel(model.conv)
    file.add_ssm_inner_size(inner)
    file.add_ssm_state_size(model.state)
    file.add_ssm_time_step_rank(heads)
    file.add_ssm_group_count(model.groups)
    for i in range(model.layers):
        block = f"blk.{i}."
        bound = model.conv ** -0.5
        dt = np.exp(out.random.uniform(np.log(1e-3), np.log(1e-1), heads))
        out.exact(block + "attn_norm.weight", np.ones(model.width))
        out.matrix(block + "ssm_in.weight", inner + channels + heads, model.width)
        out.exact(block + "ssm_conv1d.weight", out.random.uniform(-bound, bound, (channels, model.conv)))
        out.exact(block + "ssm_conv1d.bias", out.random.uniform(-bound, bound, channels))
        out.exact(block + "ssm_dt.bias", np.log(np.expm1(dt)))  # softplus of it is dt
        out.exact(block + "ssm_a", -out.random.uniform(1, 16, (heads, 1)))
        out.exact(block + "ssm_d", np.ones((heads, 1)))
        out.exact(block + "ssm_norm.weight", np.ones((model.groups, inner // model.groups)))
        out.matrix(block + "ssm_out.weight", model.width, inner)


def write_llama(out, model):
    file, width = out.file, model.width
    head = width // model.heads
    file.add_feed_forward_length(model.mlp)
    file.add_head_count(model.heads)
    file.add_head_count_kv(model.kv_heads)
    file.add_rope_dimension_count(head)
    file.add_rope_freq_base(model.rope_theta)
    for i in range(model.layers):
        block = f"blk.{i}."
        out.exact(block + "attn_norm.weight", np.ones(width))
        out.exact(block + "ffn_norm.weight", np.ones(width))
        out.matrix(block + "attn_q.weight", width, width)
        out.matrix(block + "attn_k.weight", head * model.kv_heads, width)
        out.matrix(block + "attn_v.weight", head * model.kv_heads, width)
        out.matrix(block + "attn_output.weight", width, width)
        out.matrix(block + "ffn_gate.weight", model.mlp, width)
        out.matrix(block + "ffn_up.weight", model.mlp, width)
        out.matrix(block + "ffn_down.weight", width, model.mlp)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model file, for example bench/models/mamba2-130m.json")
    parser.add_argument("out", help="GGUF file to write")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    model = model_file.load_or_exit(args.model)
    out = Writer(args.out, model.kind, args.seed)
    write_common(out, model)
    (write_mamba2 if model.kind == "mamba2" else write_llama)(out, model)
    out.close()
    print(f"{args.out}: {model.kind}, {out.parameters / 1e6:.1f} M parameters", file=sys.stderr)


if __name__ == "__main__":
    main()
