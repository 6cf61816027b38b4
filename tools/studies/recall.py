#!/usr/bin/env python3
"""Associative recall against the bytes of a sequence's state: Mamba-2 by d_state, a window of attention and Taipan by
the keys that a query sees.

    tools/studies/recall.py --out DIR [--program build/examples/recall/taipan_recall] [--tasks 64x4,64x8] [--seeds 1]

A task LENGTHxPAIRS is taipan_recall's, of 256 ids; zoology-LENGTHxPAIRS has zoology's 8,192 and its places. Each model
is trained at every rate of --rates; the figure shows its best, as published comparisons do. DIR/results.json gets a
record a run and what it has is not run again; DIR/recall.svg and a table are made of it.
"""
import argparse
import itertools
import json
import math
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
ZOOLOGY = "zoology-"
TAIPAN = ["--last-layer", "selective_attention", "--refinement", "residual", "--selection", "threshold",
          "--gumbel-noise", "off", "--budget-ramp", "300:900"]
COLOURS = {"mamba2": "#c2703d", "window": "#3a9a5b", "taipan": "#3b82c4"}


def variants(length):
    for d_state in (8, 16, 32, 64):
        yield "mamba2", d_state, ["--last-layer", "mamba2", "--d-state", str(d_state)]
    for window in (length // 8, length // 4, length // 2, length):
        yield "window", window, ["--last-layer", "sliding_attention", "--window", str(window)]
        yield "taipan", window, [*TAIPAN, "--window", str(window)]


def parts(task):
    """Length, pairs, and the options of the kind of task."""
    options = ["--vocab", "8192", "--query-power", "0.01"] if task.startswith(ZOOLOGY) else []
    return *map(int, task.removeprefix(ZOOLOGY).split("x")), options


def run(program, task, options, rate, seed, steps):
    length, pairs, more = parts(task)
    command = [program, *options, *more, "--length", str(length), "--pairs", str(pairs),
               "--learning-rate", str(rate), "--seed", str(seed),
               "--steps", str(steps), "--eval-every", str(steps), "--threads", "1"]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    head, last = next(l for l in lines if l.startswith("step")).split("\t"), lines[-1].split("\t")
    values = dict(zip(head, map(float, last)))
    return {"state_bytes": int(lines[0].split()[-2]), "accuracy": values["accuracy"], "share": values["share"]}


def measure(args):
    file = args.out / "results.json"
    records = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    key = ("task", "model", "size", "rate", "seed", "steps")
    known = {tuple(r[k] for k in key) for r in records}
    for task, rate, seed in itertools.product(args.tasks, args.rates, args.seeds):
        for model, size, options in variants(parts(task)[0]):
            named = dict(zip(key, (task, model, size, rate, seed, args.steps)))
            if tuple(named.values()) in known:
                continue
            records.append({**named, **run(args.program, task, options, rate, seed, args.steps)})
            file.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
            print(records[-1], flush=True)
    return records


def best(records):
    """{task: {model: [(bytes, accuracy, size, rate, share)]}}: the best rate's mean over the seeds."""
    tasks = {}
    for (task, model, size), of in grouped(records, "task", "model", "size"):
        means = [(sum(r["accuracy"] for r in runs) / len(runs), runs[0]) for _, runs in grouped(of, "rate")]
        accuracy, r = max(means, key=lambda m: m[0])
        tasks.setdefault(task, {}).setdefault(model, []).append((r["state_bytes"], accuracy, size, r["rate"], r["share"]))
    return {task: {model: sorted(points) for model, points in models.items()} for task, models in tasks.items()}


def grouped(records, *keys):
    of = lambda r: tuple(r[k] for k in keys)
    return [(key, list(runs)) for key, runs in itertools.groupby(sorted(records, key=of), of)]


def table(records):
    rows = ["| task | last block | size | bytes | accuracy | rate | share |", "|---|---|---|---|---|---|---|"]
    for task, models in best(records).items():
        for model, points in models.items():
            for size_bytes, accuracy, size, rate, share in points:
                shown = f"{share:.3f}" if model == "taipan" else ""
                what = f"d_state {size}" if model == "mamba2" else f"{size} keys"
                rows.append(f"| {task} | {model} | {what} | {size_bytes:,} | {accuracy:.3f} | {rate:g} | {shown} |")
    return "\n".join(rows)


def panel(title, models, left, bounds):
    width, height, top = 300, 220, 40
    low, high = (math.log2(b) for b in bounds)
    at = lambda b, y: (left + width * (math.log2(b) - low) / (high - low), top + height * (1 - y))
    out = [f'<text x="{left}" y="{top - 12}" font-weight="600">{title}</text>']
    for y in (0, 0.25, 0.5, 0.75, 1):
        out.append(f'<line x1="{left}" x2="{left + width}" y1="{at(1, y)[1]:.1f}" y2="{at(1, y)[1]:.1f}" stroke="#8886"/>'
                   f'<text x="{left - 6}" y="{at(1, y)[1] + 4:.1f}" text-anchor="end">{y:g}</text>')
    for power in range(math.ceil(low), math.floor(high) + 1):
        out.append(f'<text x="{at(2**power, 0)[0]:.1f}" y="{top + height + 16}" text-anchor="middle">'
                   f'{2**power // 1024} KiB</text>')
    for i, (model, points) in enumerate(models.items()):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(p[0], p[1]) for p in points))
        out.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[model]}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[model]}"/>'
                for x, y in (at(p[0], p[1]) for p in points)]
        out.append(f'<text x="{left + 8 + 90 * i}" y="{top + height + 36}" style="fill:{COLOURS[model]}">{model}</text>')
    return out


def svg(records):
    sizes = [r["state_bytes"] for r in records]
    bounds, body = (min(sizes) / 1.1, max(sizes) * 1.1), []
    tasks = best(records)
    for i, (task, models) in enumerate(tasks.items()):
        length, pairs, zoology = parts(task)
        title = f"{pairs} pairs in {length} tokens{' of 8,192 ids' if zoology else ''}: accuracy"
        body += panel(title, models, 50 + 370 * i, bounds)
    width = 370 * len(tasks) + 10
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="310" viewBox="0 0 {width} 310">'
            '<style>text{font:12px sans-serif;fill:#888}</style>' + "".join(body) + "</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--program", default=str(ROOT / "build/examples/recall/taipan_recall"))
    parser.add_argument("--tasks", type=lambda s: s.split(","), default=["64x4", "64x8"])
    parser.add_argument("--rates", type=lambda s: [float(x) for x in s.split(",")], default=[0.006, 0.002])
    parser.add_argument("--seeds", type=lambda s: [int(x) for x in s.split(",")], default=[1])
    parser.add_argument("--steps", type=int, default=1300)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    records = [r for r in measure(args) if r["steps"] == args.steps]
    (args.out / "recall.svg").write_text(svg(records), encoding="utf-8")
    print(table(records))


if __name__ == "__main__":
    main()
