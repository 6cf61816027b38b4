#!/usr/bin/env python3
"""Compares `taipan score --pairs` with lm-evaluation-harness's HFLM.loglikelihood on multiple-choice items.

Needs torch, transformers and lm_eval. The model is a Hugging Face directory that both can read, tokenizer included.
--arc takes ARC's own JSONL (a question's stem, choices, answerKey a line), --piqa PIQA's valid.jsonl (goal, sol1, sol2).
Exit code 1 where an item is answered differently or a log-probability is further off than --tolerance.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time


def arc_items(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        question = json.loads(line)["question"]
        yield f"Question: {question['stem']}\nAnswer:", [" " + choice["text"] for choice in question["choices"]]


def piqa_items(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        yield f"Question: {item['goal']}\nAnswer:", [" " + item["sol1"], " " + item["sol2"]]


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, default=pathlib.Path("build/taipan"))
    parser.add_argument("--model", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--arc", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--piqa", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--items", type=int, default=500, help="the first items of each task (default 500)")
    parser.add_argument("--dtype", default="float32", help="of the harness's model (default float32)")
    parser.add_argument("--tolerance", type=float, default=5e-3, help="nats a continuation (default 0.005)")
    args = parser.parse_args()
    if not (args.arc or args.piqa):
        parser.error("one of --arc and --piqa")
    return args


def ours(args, pairs):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        for context, continuation in pairs:
            file.write(json.dumps({"context": context, "continuation": continuation}) + "\n")
        file.flush()
        command = [args.program, "score", "--model", args.model, "--pairs", file.name, "--json"]
        out = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    scores = [json.loads(line) for line in out.splitlines()]
    return [(s["sum_logprob"], s["greedy"]) for s in scores]


def harness(args, pairs):
    import torch
    import transformers
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, args.dtype))
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=16)
    requests = [Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=0) for pair in pairs]
    return lm.loglikelihood(requests, disable_tqdm=True)


def choices(items, scores, per_byte):
    """Index of the chosen answer of each item, by log p or by log p a byte (the harness's acc_norm)."""
    chosen, at = [], 0
    for _, answers in items:
        own = [s for s, _ in scores[at:at + len(answers)]]
        if per_byte:
            own = [s / len(a.strip()) for s, a in zip(own, answers)]
        chosen.append(max(range(len(own)), key=own.__getitem__))
        at += len(answers)
    return chosen


def check(name, items, args):
    pairs = [(context, answer) for context, answers in items for answer in answers]
    start = time.monotonic()
    mine = ours(args, pairs)
    middle = time.monotonic()
    theirs = harness(args, pairs)
    end = time.monotonic()
    furthest = max(abs(a - b) for (a, _), (b, _) in zip(mine, theirs))
    greedy = sum(a != b for (_, a), (_, b) in zip(mine, theirs))
    differ = [sum(a != b for a, b in zip(choices(items, mine, norm), choices(items, theirs, norm)))
              for norm in (False, True)]
    print(f"{name}: {len(items)} items, {len(pairs)} continuations: choices that differ {differ[0]} (by log p), "
          f"{differ[1]} (a byte), greedy {greedy}; log p at most {furthest:.2e} apart; "
          f"{middle - start:.0f} s, harness {end - middle:.0f} s", flush=True)
    return sum(differ) + greedy == 0 and furthest <= args.tolerance


def main():
    args = parse_args()
    good = True
    for name, path, read in (("ARC", args.arc, arc_items), ("PIQA", args.piqa, piqa_items)):
        if path:
            good &= check(name, list(read(path))[:args.items], args)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
