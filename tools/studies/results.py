#!/usr/bin/env python3
"""Writes the tables of docs/results.md from what tools/studies measured: bench/studies/paper-*.json, which paper.py
wrote, and rates-*.json, which gate.py did.

    tools/studies/results.py             the tables anew; the sentences around them stay
    tools/studies/results.py --check     fails where a table is not what the results give

A table stands between `<!-- NAME SIZE -->` (of the patterns; `NAME SIZE forms`: of Taipan's forms; `text SIZE rates`:
at other learning rates; `text SIZE runs`: of gate-text-SIZE.json, which gate.py wrote) and `<!-- end -->`.
"""
import argparse
import json
import pathlib
import re
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/results.md"
PATTERNS = {"transformer": "transformer", "mamba2": "mamba2", "jamba": "jamba", "samba": "samba (window)",
            "residual_threshold": "taipan", "paper": "taipan, the paper's gate", "residual_random": "taipan, drawn tokens"}
FORMS = {"residual_threshold_budget-0.05": "budget 0.05", "residual_threshold": "budget 0.15, no positions",
         "residual_threshold_budget-0.5": "budget 0.5", "samba": "all tokens (samba)",
         "residual_threshold_RoPE": "budget 0.15, RoPE"}


class Results:
    def __init__(self, runs, names=PATTERNS):
        self.names = names
        self.by_pattern = {p: [r for r in runs if r["run"] == p] for p in names}
        self.by_pattern = {p: found for p, found in self.by_pattern.items() if found}

    def mean(self, pattern, value, digits):
        """Mean over the seeds, and from the least to the greatest where there are several; "" where none has it."""
        values = [v for v in map(value, self.by_pattern[pattern]) if v is not None]
        if not values:
            return ""
        spread = f" ({min(values):.{digits}f}-{max(values):.{digits}f})" if len(values) > 1 else ""
        return f"{statistics.mean(values):.{digits}f}{spread}"


def grid(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


TEXT = ["pattern", "seeds", "bits/byte", "recall hits, nats", "others, nats", "share in use"]


def text_rows(results):
    keys = [("bits_per_byte", 4), ("recall_hit_ce", 4), ("other_ce", 4)]
    rows = []
    for pattern, runs in results.by_pattern.items():
        figures = [results.mean(pattern, lambda r, k=key: r["valid"][k], digits) for key, digits in keys]
        shares = "; ".join(", ".join(f"{share:.3f}" for share in r["valid"]["share_in_use"]) for r in runs).strip("; ")
        rows.append([results.names[pattern], len(runs), *figures, shares])
    return rows


def task_table(results):
    first = next(iter(results.by_pattern.values()))[0]
    rows = []
    for index, task in enumerate(first["tasks"]):
        key = next(k for k in ("acc_norm", "acc", "contains") if k in task)
        value = lambda r, i=index, k=key: r["tasks"][i][k]
        chance = f"{task['chance']:.3f}" if "chance" in task else ""
        rows.append([f"{task['task']}, {key}", task["items"], chance, *(results.mean(p, value, 3) for p in results.by_pattern)])
    for key, digits in (("acc", 3), ("perplexity", 1)):
        value = lambda r, k=key: r["last_words"][0][k]
        items = first["last_words"][0]["items"]
        rows.append([f"last words, {key}", items, "", *(results.mean(p, value, digits) for p in results.by_pattern)])
    return grid(["task", "items", "chance", *(results.names[p] for p in results.by_pattern)], rows)


def at_position(run, to):
    found = [span["nats"] for span in run["loss_by_position"] if span["to"] == to]
    return found[0] if found else None


def position_table(results):
    ends = sorted({span["to"] for runs in results.by_pattern.values() for run in runs
                   for span in run["loss_by_position"] if span["to"] & (span["to"] - 1) == 0})
    rows = [[f"to {end:,}", *(results.mean(p, lambda r: at_position(r, end), 3) for p in results.by_pattern)]
            for end in ends]
    return grid(["tokens", *(results.names[p] for p in results.by_pattern)], rows)


def passkey_table(results):
    def cells(run, length, key):
        found = [c[key] for c in run["passkey"][0]["cells"] if c["length"] == length]
        return statistics.mean(found) if found else None
    lengths = sorted({c["length"] for runs in results.by_pattern.values() for c in runs[0]["passkey"][0]["cells"]})
    rows = []
    for length in lengths:
        for key, digits in (("found", 2), ("answer_nats", 2)):
            rows.append([f"{length:,}, {key}",
                         *(results.mean(p, lambda r: cells(r, length, key), digits) for p in results.by_pattern)])
    return grid(["tokens", *(results.names[p] for p in results.by_pattern)], rows)


TABLES = {"text": lambda results: grid(TEXT, text_rows(results)), "tasks": task_table, "positions": position_table, "passkey": passkey_table}


def read(name):
    return json.loads((ROOT / f"bench/studies/{name}.json").read_text(encoding="utf-8"))


def of_gate(run):
    """A record of gate.py as one of paper.py."""
    return {"run": run["variant"].replace(", ", "_").replace(" ", "-"), "valid": run}


def runs_table(size):
    """Text alone, of runs that were not evaluated."""
    found = read(f"gate-text-{size}")
    runs = found if isinstance(found, list) else found["runs"]
    return grid(TEXT, text_rows(Results([of_gate(run) for run in runs])))


def rates_table(size):
    """Text at other rates than the study's."""
    by_rate = {}
    for run in read(f"rates-{size}"):
        by_rate.setdefault(run["learning_rate"], []).append(of_gate(run))
    return grid(["rate", *TEXT], [[f"{rate:g}", *row] for rate, runs in sorted(by_rate.items())
                                  for row in text_rows(Results(runs))])


def filled(page):
    def table(match):
        name, size, of = match.groups()
        head = f"<!-- {name} {size}{of and ' ' + of or ''} -->"
        text = (rates_table(size) if of == "rates" else runs_table(size) if of == "runs" else
                TABLES[name](Results(read(f"paper-{size}")["runs"], FORMS if of == "forms" else PATTERNS)))
        return f"{head}\n{text}\n<!-- end -->"
    return re.sub(r"<!-- (\w+) ([\w-]+)(?: (\w+))? -->\n.*?<!-- end -->", table, page, flags=re.S)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    if args.check:
        return 0 if filled(page) == page else f"{PAGE}: not what the results give; tools/studies/results.py writes it"
    PAGE.write_text(filled(page), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
