#!/usr/bin/env python3
"""Loss far beyond the trained context, of models trained with and without states that go on.

    tools/studies/long.py --out DIR --data TRAIN --held TEXT... [--models mamba2-1m,taipan-1m] [--states none,carry,random]

Trains each model with each --state at --context tokens (what is finished below DIR is not trained again). Then each
held-out text is read twice: in one go up to --length tokens, and in windows of --context tokens from a fresh state of
which the second half is scored. The same tokens are compared, so a hard chapter harms both readings. Writes
OUT/results.json and prints a table: by position, the loss in one go and how it compares with that of the windows.
"""
import argparse
import json
import pathlib
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def train(model, state, seed, args):
    out = args.out / f"{model}-{state}-{seed}"
    command = [args.program, "train", "--out", str(out)]
    if (out / "trainer.json").exists():
        if json.loads((out / "trainer.json").read_text())["ended"] == "finished":
            return out
        command += ["--resume"]
    command += ["--model", model, "--data", *args.data, "--tokenizer", args.tokenizer, "--context", str(args.context),
                "--batch-size", str(args.batch_size), "--steps", str(args.steps), "--seed", str(seed), "--state",
                state, "--state-windows", str(args.state_windows), "--learning-rate", args.learning_rate,
                "--initializer-range", args.initializer_range, "--keep", "1", "--threads", str(args.threads)]
    subprocess.run(command + args.flags.split(), check=True)
    return out


def encode(text, args):
    command = [args.program, "tokenizer", "encode", "--tokenizer", args.tokenizer, "--text", str(text), "--json"]
    ids = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    ids = ids["ids"] if isinstance(ids, dict) else ids
    if len(ids) < args.length:
        raise SystemExit(f"{text}: {len(ids)} tokens, --length asks for {args.length}")
    return ids[:args.length]


def logprobs(model, lines, args):
    """Of each line of ids, read from a fresh state."""
    file = args.out / "lines.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [args.program, "score", "--model", str(model), "--tokens", str(file), "--json", "--threads",
               str(args.threads)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [json.loads(line)["logprobs"] for line in out.splitlines()]


def windows(model, ids, args):
    """log p of each token with the half to the whole of a context before it."""
    half = args.context // 2
    starts = range(0, len(ids) - half, half)
    result = [None] * len(ids)
    for start, line in zip(starts, logprobs(model, [ids[s:s + args.context] for s in starts], args)):
        for i in range(half if start else 1, len(line)):
            result[start + i] = line[i]
    return result


def buckets(args):
    edges = [0, args.context // 2, args.context]
    while edges[-1] < args.length:
        edges.append(min(2 * edges[-1], args.length))
    return list(zip(edges, edges[1:]))


def read(model, texts, args):
    whole, local = [], []
    for ids in texts:
        whole.append(logprobs(model, [ids], args)[0])
        local.append(windows(model, ids, args))
    rows = []
    for begin, end in buckets(args):
        loss = lambda readings: -statistics.fmean(x for reading in readings for x in reading[max(begin, 1):end])
        rows.append({"from": begin, "to": end, "loss": loss(whole), "loss_of_windows": loss(local)})
    return rows


def table(results):
    names = [f"{r['model']} {r['state']}" + (f", seed {r['seed']}" if r["seed"] else "") for r in results]
    lines = ["| tokens before | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for i, row in enumerate(results[0]["by_position"]):
        cells = []
        for r in results:
            at = r["by_position"][i]
            cells.append(f"{at['loss']:.3f} ({100 * (at['loss'] / at['loss_of_windows'] - 1):+.1f} %)")
        lines.append(f"| {row['from']} to {row['to']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--program", default=str(ROOT / "build/taipan"))
    parser.add_argument("--models", default="mamba2-1m,taipan-1m")
    parser.add_argument("--states", default="none,carry,random")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--held", nargs="+", required=True, help="texts of at least --length tokens")
    parser.add_argument("--tokenizer", default="byte")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--length", type=int, default=65536)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--state-windows", type=int, default=128)
    parser.add_argument("--learning-rate", default="2e-3")
    parser.add_argument("--initializer-range", default="0.088")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--flags", default="", help="more flags of train")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    texts = [encode(text, args) for text in args.held]
    settings = {k: v for k, v in vars(args).items() if k not in ("out", "program", "data", "held", "tokenizer")}
    settings["held"] = [pathlib.Path(text).name for text in args.held]
    results = []
    for model in args.models.split(","):
        for seed in map(int, args.seeds.split(",")):
            for state in args.states.split(","):
                run = train(model, state, seed, args)
                steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
                results.append({"model": model, "state": state, "seed": seed,
                                "train_ce": statistics.mean(s["ce"] for s in steps[-50:] if "ce" in s),
                                "by_position": read(run / "model", texts, args)})
                (args.out / "results.json").write_text(json.dumps({"settings": settings, "results": results}, indent=1) + "\n")
                print(table(results), flush=True)


if __name__ == "__main__":
    main()
