#!/usr/bin/env python3
"""Checks GGUF files against llama.cpp (package llama-cpp-python).

For every folder given (or, without any, small Mamba-2 and Llama models that `taipan init` makes): llama.cpp loads the
export of `taipan convert` in every element type, and its logits are those of `taipan score` on the same file, up to what
llama.cpp's own arithmetic costs (it rounds activations to the weights' type). A .gguf file is read by both as it is;
without any arguments those of tests/golden/models are, too: their perplexities must agree within 0.1 %. Exits 1 where
something differs by more, 77 where the package is not installed.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import llama_cpp
    import numpy as np
    import safetensors.numpy
except ImportError as error:
    print(f"skipped: {error.name} is not installed")
    sys.exit(77)

TOKENS = 128
BOUND = {"f32": 2e-5, "f16": 4e-3, "bf16": 3e-2, "q8_0": 6e-2}  # of the largest logit
COMMON = {"model_type": "taipan", "vocab_size": 256, "hidden_size": 64, "bos_token_id": 1, "eos_token_id": 2,
          "initializer_range": 0.15}
TINY = {
    "mamba2": COMMON | {"layer_pattern": ["mamba2"] * 2, "head_dim": 16, "state_size": 32, "n_groups": 2},
    "llama": COMMON | {"layer_pattern": ["attention"] * 2, "intermediate_size": 96, "num_attention_heads": 4,
                       "num_key_value_heads": 2, "attention_head_dim": 32, "rope_theta": 50000.0,
                       "tie_word_embeddings": False},
    "llama3": COMMON | {"layer_pattern": ["attention"] * 2, "intermediate_size": 96, "num_attention_heads": 2,
                        "num_key_value_heads": 1, "attention_head_dim": 32, "rope_theta": 500000.0,
                        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                         "high_freq_factor": 4.0, "original_max_position_embeddings": 64}},
    "linear": COMMON | {"layer_pattern": ["attention"] * 2, "intermediate_size": 96, "num_attention_heads": 4,
                        "num_key_value_heads": 4, "attention_head_dim": 16, "rope_theta": 10000.0,
                        "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
}


def run(program, *arguments):
    result = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, arguments))}: {result.stderr.strip()}")
    return result.stdout


def llama_logits(path, tokens):
    parameters = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        return None
    context_parameters = llama_cpp.llama_context_default_params()
    context_parameters.n_ctx = context_parameters.n_batch = context_parameters.n_ubatch = 256
    context_parameters.n_threads = context_parameters.n_threads_batch = 1
    context_parameters.type_k = context_parameters.type_v = 0  # f32
    context_parameters.flash_attn_type = 0
    context = llama_cpp.llama_init_from_model(model, context_parameters)
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = int(token), i, 1, 1
        batch.seq_id[i][0] = 0
    if llama_cpp.llama_decode(context, batch) != 0:
        sys.exit(f"error: {path}: llama_decode failed")
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    rows = [np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, i), shape=(vocabulary,)).copy()
            for i in range(len(tokens))]
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return np.stack(rows)


def taipan_logits(program, model, tokens, folder):
    path, logits = folder / "tokens.jsonl", folder / "logits.safetensors"
    path.write_text(json.dumps(tokens) + "\n")
    run(program, "score", "--model", model, "--tokens", path, "--logits", logits, "--json")
    return safetensors.numpy.load_file(logits)["0"]


def check(program, name, source, folder):
    good = True
    for dtype, bound in BOUND.items():
        path = folder / f"{name}-{dtype}.gguf"
        run(program, "convert", source, path, "--dtype", dtype)
        tokens = np.random.default_rng(1).integers(3, 250, TOKENS).tolist()
        theirs = llama_logits(path, tokens)
        if theirs is None:
            print(f"{name:10} {dtype:5} llama.cpp does not load it  FAILED")
            return False
        ours = taipan_logits(program, path, tokens, folder)
        difference, largest = np.abs(ours - theirs).max(), np.abs(theirs).max()
        fine = ours.shape == theirs.shape and difference <= bound * largest
        print(f"{name:10} {dtype:5} {TOKENS} tokens, largest logit {largest:.2f}, largest difference {difference:.2e}"
              f"{'' if fine else '  FAILED'}", flush=True)
        good &= bool(fine)
        path.unlink()
    return good


def perplexity(logits, tokens):
    rows = logits[:-1].astype(np.float64)
    top = rows.max(axis=1, keepdims=True)
    logprobs = rows - top - np.log(np.exp(rows - top).sum(axis=1, keepdims=True))
    return np.exp(-logprobs[np.arange(len(rows)), tokens[1:]].mean())


def check_file(program, path, folder):
    shown = json.loads(run(program, "inspect", path, "--json"))
    tokens = np.random.default_rng(1).integers(0, shown["config"]["vocab_size"], TOKENS).tolist()
    theirs, ours = llama_logits(path, tokens), taipan_logits(program, path, tokens, folder)
    a, b = perplexity(theirs, tokens), perplexity(ours, tokens)
    fine = ours.shape == theirs.shape and abs(b / a - 1) <= 1e-3
    print(f"{path.stem:16} {TOKENS} tokens, perplexity {a:.4f} in llama.cpp, {b:.4f} here ({b / a - 1:+.1e}), largest logit "
          f"{np.abs(theirs).max():.2f}, largest difference {np.abs(ours - theirs).max():.2e}{'' if fine else '  FAILED'}",
          flush=True)
    return bool(fine)


def quiet(level, text, data):
    pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/taipan", help="the taipan program")
    parser.add_argument("--verbose", action="store_true", help="show llama.cpp's messages")
    parser.add_argument("models", nargs="*", help="folders or .gguf files; none: small random models")
    args = parser.parse_args()
    callback = llama_cpp.llama_log_callback(quiet)
    if not args.verbose:
        llama_cpp.llama_log_set(callback, None)
    llama_cpp.llama_backend_init()
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        files = [] if args.models else sorted(pathlib.Path("tests/golden/models").glob("*.gguf"))
        for model in [*map(pathlib.Path, args.models), *files]:
            if model.suffix == ".gguf":
                good &= check_file(args.program, model, folder)
            else:
                good &= check(args.program, model.stem, model, folder)
        for kind, config in {} if args.models else TINY.items():
            (folder / f"{kind}.json").write_text(json.dumps(config))
            run(args.program, "init", "--config", folder / f"{kind}.json", "--out", folder / kind)
            good &= check(args.program, kind, folder / kind, folder)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
