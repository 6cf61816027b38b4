#!/usr/bin/env python3
"""Trains a tokenizer with `taipan tokenizer train` and with Python's `tokenizers` on the same text and compares merges,
vocabulary and the ids of the written file.

    compare_training.py --taipan build/taipan --data FILE [--vocab-size 32000]

Exits 1 on any difference. Needs `pip install tokenizers`."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # noqa: E402

END = "<|endoftext|>"


def train_ours(program, data, vocab_size, out):
    start = time.time()
    command = [program, "tokenizer", "train", "--vocab-size", str(vocab_size), "--data", data, "--out", out]
    subprocess.run(command + ["--special-token", END, "--threads", "1"], check=True)
    return time.time() - start


def train_theirs(text, vocab_size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    start = time.time()
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer, time.time() - start


def model_of(text):
    model = json.loads(text)["model"]
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    return merges, model["vocab"]


def ids_of(program, tokenizer, texts):
    lines = "".join(json.dumps({"text": t}) + "\n" for t in texts)
    command = [program, "tokenizer", "encode", "--tokenizer", tokenizer, "--jsonl", "-", "--parse-special"]
    result = subprocess.run(command, input=lines.encode(), capture_output=True, check=True)
    return [json.loads(line)["ids"] for line in result.stdout.splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--taipan", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--vocab-size", type=int, default=32000)
    args = parser.parse_args()
    with open(args.data, encoding="utf-8", newline="") as file:
        text = file.read()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tokenizer.json")
        seconds = train_ours(args.taipan, args.data, args.vocab_size, path)
        theirs, their_seconds = train_theirs(text, args.vocab_size)
        with open(path, encoding="utf-8") as file:
            merges, vocab = model_of(file.read())
        their_merges, their_vocab = model_of(theirs.to_str())
        same = sum(a == b for a, b in zip(merges, their_merges))
        print(f"{len(text.encode())} bytes; ours {seconds:.1f} s, tokenizers {their_seconds:.1f} s (one thread each)")
        print(f"merges: {len(merges)} and {len(their_merges)}, {same} the same; vocabulary: {vocab == their_vocab}")
        pieces = [text[i : i + 4000] for i in range(0, min(len(text), 2_000_000), 4000)] + [END + "x" + END]
        want = [e.ids for e in Tokenizer.from_file(path).encode_batch(pieces, add_special_tokens=False)]
        different = sum(a != b for a, b in zip(ids_of(args.taipan, path, pieces), want))
        print(f"ids of the written file: {different} of {len(pieces)} texts differ")
    sys.exit(0 if merges == their_merges and vocab == their_vocab and different == 0 else 1)


if __name__ == "__main__":
    main()
