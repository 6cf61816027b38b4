#!/usr/bin/env python3
"""Times PyTorch + transformers on a model of bench/models (random weights, random tokens), one sample at a time.

With --serve the process builds and warms up once, prints {"ready": true, ...}, then takes one timed sample for every
line on stdin and ends with it: a run that alternates with another program need not compile twice. Between samples it
sleeps in a read. Otherwise it takes --runs samples. A sample is one JSON line: {"tokens_per_second", "seconds"}.

  train    forward, backward, clipping of the gradient norm, fused AdamW
  prefill  inference mode, cache filled, logits of the last token alone
"""
import argparse
import gc
import json
import os
import resource
import sys
import time

import model_file


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model file, for example bench/models/mamba2-130m.json")
    parser.add_argument("--mode", required=True, choices=["train", "prefill"])
    parser.add_argument("--context", type=int, default=1024, help="tokens a sequence (default 1024)")
    parser.add_argument("--batch-size", type=int, default=1, help="sequences (default 1)")
    parser.add_argument("--dtype", default="autocast", choices=["f32", "autocast", "bf16"],
                        help="autocast: f32 weights, products in bf16; bf16: the weights too (default autocast)")
    parser.add_argument("--compile", default="none", choices=["none", "layer", "full"],
                        help="layer: every block on its own; full: the whole model (default none)")
    parser.add_argument("--chunk", type=int, default=64, help="tokens a chunk of the Mamba-2 scan (default 64)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--warmup", type=int, default=2, help="untimed samples beforehand (default 2)")
    parser.add_argument("--runs", type=int, default=3, help="samples without --serve (default 3)")
    parser.add_argument("--serve", action="store_true")
    return parser.parse_args()


def import_peers():
    """torch and transformers, with a message that names what is missing."""
    try:
        import torch
        import transformers
    except ImportError as error:
        sys.exit(f"error: {error.name} is missing in {sys.executable}: scripts/compare.sh sets an environment up")
    transformers.logging.set_verbosity_error()
    return torch, transformers


def build_mamba2(transformers, model, chunk):
    config = transformers.Mamba2Config(
        vocab_size=model.vocab, hidden_size=model.width, num_hidden_layers=model.layers, expand=model.expand,
        head_dim=model.head_dim, num_heads=model.ssm_heads, state_size=model.state, n_groups=model.groups,
        conv_kernel=model.conv, chunk_size=chunk, tie_word_embeddings=model.tied, layer_norm_epsilon=model.norm_eps,
        bos_token_id=0, eos_token_id=0, pad_token_id=0)
    network = transformers.Mamba2ForCausalLM(config)
    return network, network.backbone.layers


def build_llama(transformers, model, context):
    config = transformers.LlamaConfig(
        vocab_size=model.vocab, hidden_size=model.width, num_hidden_layers=model.layers,
        num_attention_heads=model.heads, num_key_value_heads=model.kv_heads, intermediate_size=model.mlp,
        rms_norm_eps=model.norm_eps, tie_word_embeddings=model.tied, max_position_embeddings=context,
        attn_implementation="sdpa")
    network = transformers.LlamaForCausalLM(config)
    return network, network.model.layers


def build(torch, transformers, model, args):
    """The network, and what to call: the network itself or its compiled form."""
    torch.manual_seed(1)
    if model.kind == "mamba2":
        network, blocks = build_mamba2(transformers, model, args.chunk)
    else:
        network, blocks = build_llama(transformers, model, args.context)
    if args.dtype == "bf16":
        network = network.to(torch.bfloat16)
    network.train(args.mode == "train")
    forward = network
    if args.compile != "none":
        torch._dynamo.config.recompile_limit = 200  # each block's index is a new case; the default of 8 falls back
    if args.compile == "layer":
        for block in blocks:
            block.compile(dynamic=False)
    elif args.compile == "full":
        forward = torch.compile(network, dynamic=False)
    return network, forward


def train_step(torch, network, forward, tokens, autocast):
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.1, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            loss = forward(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def prefill_step(torch, forward, tokens, autocast):
    def step():
        with torch.inference_mode(), autocast:
            return forward(input_ids=tokens, use_cache=True, logits_to_keep=1).logits.float().sum().item()

    return step


def timed(step, tokens):
    start = time.perf_counter()
    value = step()
    seconds = time.perf_counter() - start
    gc.collect()
    if value != value:
        sys.exit("error: the peer's result is not a number")
    return {"tokens_per_second": tokens / seconds, "seconds": seconds}


def peak_rss_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def emit(record):
    print(json.dumps(record), flush=True)


def main():
    args = parse_args()
    model = model_file.load_or_exit(args.model)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    torch, transformers = import_peers()
    torch.set_num_threads(args.threads)
    network, forward = build(torch, transformers, model, args)
    tokens = torch.randint(0, model.vocab, (args.batch_size, args.context))
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "autocast")
    if args.mode == "train":
        step = train_step(torch, network, forward, tokens, autocast)
    else:
        step = prefill_step(torch, forward, tokens, autocast)

    warmup = [timed(step, tokens.numel()) for _ in range(args.warmup)]
    emit({"ready": True, "torch": torch.__version__, "transformers": transformers.__version__,
          "parameters": sum(p.numel() for p in network.parameters()), "threads": args.threads,
          "warmup_seconds": [w["seconds"] for w in warmup]})
    for _ in sys.stdin if args.serve else range(args.runs):
        emit({**timed(step, tokens.numel()), "peak_rss_bytes": peak_rss_bytes()})


if __name__ == "__main__":
    main()
