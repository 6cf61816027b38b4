#!/usr/bin/env python3
"""Checks what `taipan convert` writes against the programs that read it.

For every model given (or, without any, small random ones that transformers writes on the spot): transformers loads the
exported folder without missing or unexpected tensors and gives, in double precision, the logits of `taipan score`.
Exits 1 where the largest difference exceeds the bound, 77 where torch or transformers is not installed.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import safetensors.torch
    import torch
    import transformers
except ImportError as error:
    print(f"skipped: {error.name} is not installed")
    sys.exit(77)

BOUND = 2e-5  # of the largest logit, f32 against f64
TOKENS = 200
TINY = {
    "mamba2": transformers.Mamba2Config(
        vocab_size=97, hidden_size=48, num_heads=8, head_dim=12, state_size=24, n_groups=2, conv_kernel=3,
        num_hidden_layers=2, chunk_size=32, time_step_limit=(0.02, 0.4), initializer_range=0.3),
    "mamba2-tied": transformers.Mamba2Config(
        vocab_size=64, hidden_size=32, num_heads=4, head_dim=16, state_size=16, n_groups=1, num_hidden_layers=3,
        chunk_size=16, tie_word_embeddings=True, initializer_range=0.3),
    "llama": transformers.LlamaConfig(
        vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=24, tie_word_embeddings=False, initializer_range=0.3,
        rope_parameters={"rope_type": "default", "rope_theta": 50000.0}),
    "llama3": transformers.LlamaConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True, initializer_range=0.3,
        rope_parameters={"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 64}),
    "llama-linear": transformers.LlamaConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        initializer_range=0.3, rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}),
    "mistral": transformers.MistralConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, sliding_window=40, initializer_range=0.3),
    "bamba": transformers.BambaConfig(
        vocab_size=97, hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, attn_layer_indices=[1], mamba_n_heads=6, mamba_d_head=16, mamba_d_state=16,
        mamba_n_groups=2, mamba_chunk_size=32, initializer_range=0.3),
    "granite": transformers.GraniteConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, embedding_multiplier=3.0, residual_multiplier=0.6, attention_multiplier=0.2,
        logits_scaling=1.5, initializer_range=0.3, tie_word_embeddings=True),
    "granite-hybrid": transformers.GraniteMoeHybridConfig(
        vocab_size=97, hidden_size=32, num_hidden_layers=3, layer_types=["mamba", "attention", "mamba"],
        num_attention_heads=4, num_key_value_heads=2, shared_intermediate_size=48, num_local_experts=0,
        num_experts_per_tok=0, mamba_n_heads=8, mamba_n_groups=2, mamba_d_state=16, mamba_chunk_size=32,
        embedding_multiplier=3.0, residual_multiplier=0.6, attention_multiplier=0.2, logits_scaling=1.5,
        initializer_range=0.3),
    "granite-nope": transformers.GraniteMoeHybridConfig(
        vocab_size=97, hidden_size=32, num_hidden_layers=2, layer_types=["attention", "attention"],
        num_attention_heads=4, num_key_value_heads=2, shared_intermediate_size=48, num_local_experts=0,
        num_experts_per_tok=0, mamba_n_heads=8, attention_multiplier=0.2, initializer_range=0.3),
    "nemotron-h": transformers.NemotronHConfig(
        vocab_size=97, hidden_size=32, layers_block_type=["mamba", "mlp", "attention", "mamba"], intermediate_size=48,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, mamba_num_heads=6, mamba_head_dim=8, n_groups=2,
        ssm_state_size=16, chunk_size=32, initializer_range=0.3),
    "falcon-h1": transformers.FalconH1Config(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, mamba_d_ssm=48, mamba_n_heads=6, mamba_n_groups=2, mamba_d_state=16, mamba_chunk_size=32,
        embedding_multiplier=2.5, lm_head_multiplier=0.45, key_multiplier=0.6, attention_in_multiplier=1.3,
        attention_out_multiplier=0.8, ssm_in_multiplier=0.9, ssm_out_multiplier=0.55,
        ssm_multipliers=[0.35, 1.6, 0.7, 1.3, 0.8], mlp_multipliers=[0.7, 1.4], initializer_range=0.3),
    "falcon-h1-norm": transformers.FalconH1Config(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=1, mamba_d_ssm=64, mamba_n_heads=8, mamba_n_groups=2, mamba_d_state=16, mamba_chunk_size=32,
        mamba_rms_norm=True, mamba_norm_before_gate=False, tie_word_embeddings=True, initializer_range=0.3),
}


def run(program, *arguments):
    result = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, arguments))}: {result.stderr.strip()}")
    return result.stdout


def random_tokens(vocab):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, vocab, (TOKENS,), generator=generator)


def expected(folder, tokens):
    """Logits in double precision, and what transformers says of the tensors."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, output_loading_info=True)
    model.eval()
    with torch.no_grad():
        logits = model(tokens[None]).logits[0]
    wrong = {key: value for key, value in info.items() if value and key != "error_msgs"}
    return logits, wrong


def computed(program, model, tokens, folder):
    path, logits = pathlib.Path(folder) / "tokens.jsonl", pathlib.Path(folder) / "logits.safetensors"
    path.write_text(json.dumps(tokens.tolist()) + "\n")
    run(program, "score", "--model", model, "--tokens", path, "--logits", logits, "--json")
    return safetensors.torch.load_file(logits)["0"].double()


def check(program, name, source, folder):
    """taipan's logits of the source against transformers' of its export (and of the source, where that is a folder of
    its own)."""
    exported = pathlib.Path(folder) / "exported"
    run(program, "convert", source, exported, "--to", "hf")
    tokens = random_tokens(json.loads((exported / "config.json").read_text())["vocab_size"])
    ours = computed(program, source, tokens, folder)
    folders = {"export": exported}
    if pathlib.Path(source).is_dir() and "transformers_version" in (pathlib.Path(source) / "config.json").read_text():
        folders["source"] = source
    good = True
    for what, there in folders.items():
        logits, wrong = expected(there, tokens)
        difference = (ours - logits).abs().max().item()
        fine = difference <= BOUND * logits.abs().max().item() and not wrong
        print(f"{name:14} {what}: {len(tokens)} tokens, largest logit {logits.abs().max().item():.2f}, largest "
              f"difference {difference:.2e}{f', transformers complains: {wrong}' if wrong else ''}"
              f"{'' if fine else '  FAILED'}", flush=True)
        good &= fine
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/taipan", help="the taipan program")
    parser.add_argument("models", nargs="*", help="folders or .gguf files; none: small random models")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    good = True
    for model in args.models:
        with tempfile.TemporaryDirectory() as folder:
            good &= check(args.program, pathlib.Path(model).name, model, folder)
    for name, config in {} if args.models else TINY.items():
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(2)
            model = transformers.AutoModelForCausalLM.from_config(config)
            source = pathlib.Path(folder) / "source"
            model.save_pretrained(source)
            good &= check(args.program, name, source, folder)
            run(args.program, "inspect", source)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
