#!/usr/bin/env python3
"""The paper's evaluations on models that tools/studies/gate.py trained.

    tools/studies/paper.py --runs DIR --held DIR --data DIR --out DIR [--only "mamba2-1;residual_threshold-1"]

For each run below --runs: the nine tasks and SQuAD from --data (docs/evaluation.md), the last words of passages of the
held-out books in --held, passkeys, and the loss by position over those books one after another, to --far tokens where
the state is constant and to --near where keys grow with the text. A run that was cut goes on where it was; what is
finished is not measured again. Writes OUT/results.json: a record a run.
"""
import argparse
import csv
import json
import pathlib
import re
import subprocess

import gate

ROOT = pathlib.Path(__file__).resolve().parents[2]
MARKS = ".,;:!?\"'“”‘’—"
SENTENCE_END = re.compile("[.!?]['\"”’]?$")
GROWING = ("transformer", "jamba")


def passages(text):
    """Paragraphs cut at the end of a sentence whose last word, of five letters or more, stood in them before."""
    for paragraph in re.split(r"\n+", text):
        words = paragraph.split()
        bare = [word.strip(MARKS) for word in words]
        for end in range(min(len(words), 110), 50, -1):
            last = bare[end - 1]
            if SENTENCE_END.search(words[end - 1]) and re.fullmatch("[a-z]{5,}", last) and last in bare[:end - 12]:
                yield " ".join(words[:end - 1]) + " " + last
                break


def write_last_words(held, folder, each):
    """LAMBADA's form: every book's first passages of that kind."""
    file = folder / "lambada/lambada_test.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for book in sorted(held.glob("*.txt")):
        found = list(passages(book.read_text(encoding="utf-8")))[:each]
        lines += [json.dumps({"text": passage}) for passage in found]
    file.write_text("\n".join(lines) + "\n")
    return len(lines)


def evaluate(model, tasks, out, args, *flags):
    command = [args.program, "eval", str(model), "--tasks", tasks, "--out", str(out), "--json", "--dtype", "bf16",
               *map(str, flags)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def loss_by_position(model, text, out, tokens, args):
    """Mean loss between the powers of two."""
    rows = out / "loss.csv"
    if not (out / "loss.done").exists():
        state = out / "held.state"
        flags = ["--loss", str(rows), "--loss-every", "1024", "--max-tokens", "0", "--dtype", "bf16", "--save-state",
                 str(state), "--forget-tokens"]
        cut = out / "text.txt"
        with open(text, "rb") as source:
            cut.write_bytes(source.read(int(tokens * args.bytes_per_token)))
        subprocess.run([args.program, "generate", "--model", str(model), "--prompt-file", str(cut), *flags],
                       check=True, stdout=subprocess.DEVNULL)
        cut.unlink()
        state.unlink()
        (out / "loss.done").touch()
    spans = {}
    with open(rows, encoding="utf-8") as file:
        for row in csv.DictReader(file):
            first, last = int(row["from"]), int(row["to"])
            spans.setdefault(last.bit_length(), []).append((last, last - first + 1, float(row["nll"])))
    return [{"to": max(r[0] for r in rows) + 1, "nats": sum(n * x for _, n, x in rows) / sum(n for _, n, _ in rows)}
            for rows in spans.values()]


def measure(run, args, books):
    name, _, seed = run.name.rpartition("-")
    out = args.out / run.name
    out.mkdir(parents=True, exist_ok=True)
    model = run / "model"
    zero_shot = evaluate(model, "zero-shot,squad", out / "tasks", args, "--data", args.data, "--limit", args.limit)
    words = evaluate(model, "lambada", out / "words", args, "--data", args.out / "words")
    passkey = evaluate(model, "passkey", out / "passkey", args, "--lengths", args.passkey, "--text", books, "--each", 4)
    far = args.near if name.startswith(GROWING) else args.far
    return {"run": name, "seed": int(seed), "valid": gate.result(name, int(seed), run), "tasks": zero_shot["tasks"],
            "last_words": words["tasks"], "passkey": passkey["tasks"],
            "loss_by_position": loss_by_position(model, books, out, far, args)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=pathlib.Path, required=True)
    parser.add_argument("--held", type=pathlib.Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--only", default="", help="runs, separated by ;")
    parser.add_argument("--program", default=str(ROOT / "build/taipan"))
    parser.add_argument("--limit", type=int, default=400, help="items a task")
    parser.add_argument("--passages", type=int, default=50, help="of each held-out book")
    parser.add_argument("--passkey", default="512,1K,4K,16K")
    parser.add_argument("--near", type=int, default=65536)
    parser.add_argument("--far", type=int, default=1 << 20)
    parser.add_argument("--bytes-per-token", type=float, default=3.6)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    write_last_words(args.held, args.out / "words", args.passages)
    books = args.out / "held.txt"
    books.write_bytes(b"\n".join(file.read_bytes() for file in sorted(args.held.glob("*.txt"))))
    chosen = args.only.split(";") if args.only else [run.name for run in sorted(args.runs.iterdir()) if run.is_dir()]
    records = []
    for name in chosen:
        records.append(measure(args.runs / name, args, books))
        lines = ",\n".join(json.dumps(record) for record in records)
        settings = {"limit": args.limit, "passages": args.passages, "passkey": args.passkey, "dtype": "bf16"}
        (args.out / "results.json").write_text(f'{{"settings": {json.dumps(settings)}, "runs": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
