#!/usr/bin/env python3
"""Could anything that a gate might read tell which tokens gain most from attending? Needs numpy.

    tools/studies/gate_probe.py --text HELD_OUT --out FILE.json MODEL...

For each trained model and selective layer: the benefit of attending at every token (what it takes off the loss behind
it, to first order, divided by alpha: as if all attended with one weight), and how well each of these ranks the 15 % with
the largest (AUC: 1 perfect, 0.5 chance): the gate's margin, the token's surprise, how well its query matches the keys of
its window (largest probability, log of the mean exponential, entropy), how much the layer below changes its state (dt)
and the stream, and linear probes, fitted on every other window and read on the rest, of the normed stream that the gate
reads, of all those features, and of both. Writes FILE.json and prints a table.
"""
import argparse
import json
import pathlib
import struct
import subprocess
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARE = 0.15
CONTEXT = 1024


def load_weights(model):
    data = (model / "model.safetensors").read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    weights = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            first, last = (start + offset for offset in entry["data_offsets"])
            weights[name.removeprefix("model.")] = np.frombuffer(data[first:last], np.float32).reshape(entry["shape"])
    return weights


def normed(h, weight, eps):
    return h / np.sqrt((h * h).mean(-1, keepdims=True) + eps) * weight


def auc(scores, positive):
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores, kind="stable")] = np.arange(1, len(scores) + 1)
    count = positive.sum()
    return (ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(scores) - count))


def top(values):
    chosen = np.zeros(len(values), bool)
    chosen[np.argsort(-values)[:round(SHARE * len(values))]] = True
    return chosen


def match(x, layer, weights, config):
    """Of each query with the keys of its window, means over the heads."""
    heads, window = config["num_attention_heads"], config["sliding_window"]
    q, k = (x @ weights[f"layers.{layer}.attention.{name}_proj.weight"].T for name in "qk")
    q, k = (part.reshape(len(x), heads, -1) for part in (q, k))
    features = {"largest probability": 0, "log mean exp": 0, "entropy": 0}
    at = np.arange(CONTEXT)
    seen = (at[None] <= at[:, None]) & (at[:, None] - at[None] < window)
    for head in range(heads):
        parts = {name: [] for name in features}
        for begin in range(0, len(x), CONTEXT):
            rows = slice(begin, begin + CONTEXT)
            scores = np.where(seen, q[rows, head] @ k[rows, head].T / np.sqrt(q.shape[-1]), -np.inf)
            most = scores.max(1, keepdims=True)
            p = np.exp(scores - most)
            total = p.sum(1, keepdims=True)
            p /= total
            parts["largest probability"].append(p.max(1))
            parts["log mean exp"].append((most + np.log(total))[:, 0] - np.log(seen.sum(1)))
            parts["entropy"].append(-(p * np.log(np.maximum(p, 1e-30))).sum(1))
        for name in features:
            features[name] = features[name] + np.concatenate(parts[name]) / heads
    return features


def probe(inputs, wanted, train, test):
    """AUC on the test tokens of a ridge regression to the training tokens' first 15 %."""
    x = (inputs - inputs[train].mean(0)) / (inputs[train].std(0) + 1e-6)
    x = np.c_[x, np.ones(len(x))]
    a = x[train]
    w = np.linalg.solve(a.T @ a + 10 * np.eye(a.shape[1]), a.T @ top(wanted[train]).astype(float))
    return auc(x[test] @ w, top(wanted[test]))


def measure_layer(layer, streams, sal, surprise, weights, config):
    margin, alpha, benefit = sal
    eps, heads = config["rms_norm_eps"], config["hidden_size"] * config["expand"] // config["head_dim"]
    at = np.arange(len(margin))
    followed = at % CONTEXT < CONTEXT - 1
    train, test = (followed & (at // CONTEXT % 2 == parity) for parity in (0, 1))
    x = normed(streams[layer], weights[f"layers.{layer}.norm.weight"], eps)
    below = normed(streams[layer - 1], weights[f"layers.{layer - 1}.norm.weight"], eps)
    raw = below @ weights[f"layers.{layer - 1}.mixer.in_proj.weight"][-heads:].T + weights[f"layers.{layer - 1}.mixer.dt_bias"]
    change = np.linalg.norm(streams[layer] - streams[layer - 1], axis=1) / np.linalg.norm(streams[layer], axis=1)
    features = {"surprise": surprise, **match(x, layer, weights, config), "dt": np.logaddexp(0, raw).mean(1),
                "change of the stream": change, "position": at % CONTEXT}
    wanted = benefit / np.maximum(alpha, 1e-6)
    found = {name: auc(values[test], top(wanted[test])) for name, values in {"margin": margin, **features}.items()}
    several = np.stack(list(features.values()), 1)
    for name, inputs in {"stream": x, "features": several, "both": np.c_[x, several]}.items():
        found[f"probe of {name}"] = probe(inputs, wanted, train, test)
    return {name: round(float(value), 4) for name, value in found.items()}


def measure(model, args):
    config = json.loads((model / "config.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "probe.bin")
        subprocess.run([args.program, "--model", str(model), "--text", args.text, "--out", str(file), "--tokens",
                        str(args.tokens), "--context", str(CONTEXT)], check=True)
        data = np.fromfile(file, np.float32)
    layers, width = len(config["layer_pattern"]) + 1, config["hidden_size"]
    split = layers * args.tokens * width
    streams, rest = data[:split].reshape(layers, args.tokens, width), data[split:]
    sals, surprise = rest[:-args.tokens].reshape(-1, 3, args.tokens), rest[-args.tokens:]
    where = [i for i, kind in enumerate(config["layer_pattern"]) if kind == "selective_attention"]
    weights = load_weights(model)
    return [measure_layer(layer, streams, sal, surprise, weights, config) for layer, sal in zip(where, sals)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    parser.add_argument("--text", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--program", default=str(ROOT / "build/examples/gate_probe/taipan_gate_probe"))
    args = parser.parse_args()
    runs = [{"model": model.parent.name if model.name == "model" else model.name, "sals": measure(model, args)}
            for model in args.models]
    settings = {"tokens": args.tokens, "context": CONTEXT, "share": SHARE}
    args.out.write_text(json.dumps({"settings": settings, "runs": runs}, indent=1) + "\n")
    names = list(runs[0]["sals"][0])
    print("| AUC at equal alpha of | " + " | ".join(run["model"] for run in runs) + " |")
    print("|---" * (len(runs) + 1) + "|")
    for name in names:
        print(f"| {name} | " + " | ".join(", ".join(f"{sal[name]:.2f}" for sal in run["sals"]) for run in runs) + " |")


if __name__ == "__main__":
    main()
