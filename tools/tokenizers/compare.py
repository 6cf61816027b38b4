#!/usr/bin/env python3
"""Compares `taipan tokenizer encode` with the Python packages that own the formats, id by id.

    python3 tools/tokenizers/compare.py --program build/taipan --tokenizers DIR --text FILE|DIR ...
        [--only NAME ...] [--random N] [--megabytes N] [--seed N]

DIR holds gpt-neox-20b/tokenizer.json, gpt2/vocab.json + merges.txt, llama3/tokenizer.json, llama3/tokenizer.model and
mistral/tokenizer.model.v1, .v3 (what is missing is left out). Texts are cut into documents of 200 bytes to 64 kB at
line breaks; random strings draw characters assigned in Unicode 14, with and without spaces between them. One thread on
both sides; times are of encoding alone. Exit code 1 where any document differs.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import unicodedata

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

LLAMA3_WORDS = ("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
                "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")


def huggingface(path):
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(path)
    tokenizer.encode_special_tokens = True
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def gpt2(path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    tokenizer = Tokenizer(models.BPE.from_file(path, os.path.join(os.path.dirname(path), "merges.txt")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def sentencepiece(path):
    from sentencepiece import SentencePieceProcessor
    return SentencePieceProcessor(model_file=path).encode


def tiktoken(path):
    import base64
    from tiktoken import Encoding
    ranks = {}
    with open(path, "rb") as file:
        for line in file:
            token, rank = line.split()
            ranks[base64.b64decode(token)] = int(rank)
    return Encoding(name="llama3", pat_str=LLAMA3_WORDS, mergeable_ranks=ranks, special_tokens={}).encode_ordinary


PEERS = {
    "gpt-neox": ("gpt-neox-20b/tokenizer.json", huggingface),
    "gpt2": ("gpt2/vocab.json", gpt2),
    "llama3.1": ("llama3/tokenizer.json", huggingface),
    "llama3-tiktoken": ("llama3/tokenizer.model", tiktoken),
    "mistral-v1": ("mistral/tokenizer.model.v1", sentencepiece),
    "mistral-v3": ("mistral/tokenizer.model.v3", sentencepiece),
}


def files_below(paths):
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        for folder, _, names in sorted(os.walk(path)):
            yield from (os.path.join(folder, name) for name in sorted(names))


def documents(paths, megabytes, draw):
    found = []
    for path in files_below(paths):
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            text = file.read()
        at = 0
        while at < len(text):
            end = at + int(200 * 320 ** draw.random())
            end = text.find("\n", end) + 1 or len(text)
            found.append(text[at:end])
            at = end
    draw.shuffle(found)
    size, count = 0, 0
    while count < len(found) and size < megabytes * 1e6:
        size += len(found[count].encode())
        count += 1
    return found[:count]


def random_strings(count, draw):
    assigned = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    common = [c for c in assigned if ord(c) < 0x3000]
    strings = []
    for i in range(count):
        source = common if i % 2 else assigned
        separators = ["", "", " ", "\n", "'s", "1", "a", "\u0301"] if i % 3 else [""]
        strings.append("".join(draw.choice(source) + draw.choice(separators) for _ in range(draw.randint(1, 200))))
    return strings


def differences(name, path, peer, program, texts, texts_file):
    run = subprocess.run([program, "tokenizer", "encode", "--tokenizer", path, "--jsonl", texts_file, "--threads", "1"],
                         capture_output=True, text=True)
    if run.returncode != 0:
        print(f"{name}: {run.stderr.strip()}")
        return -1
    ours = [json.loads(line)["ids"] for line in run.stdout.splitlines()]
    start = time.perf_counter()
    theirs = [peer(text) for text in texts]
    seconds = time.perf_counter() - start
    size = sum(len(text.encode()) for text in texts)
    count = sum(a != b for a, b in zip(ours, theirs)) + abs(len(ours) - len(theirs))
    print(f"{name}: {len(texts)} texts, {size / 1e6:.1f} MB, {sum(map(len, theirs))} tokens, {count} differ")
    print(f"  taipan: {run.stderr.strip().splitlines()[-1]}")
    print(f"  python: {seconds:.3f} s, {size / 1e6 / seconds:.1f} MB/s", flush=True)
    shown = 0
    for text, a, b in zip(texts, ours, theirs):
        if a != b and shown < 3:
            at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
            print(f"  differs at token {at}: {a[max(0, at - 2):at + 6]} for {b[max(0, at - 2):at + 6]} in {text[:80]!r}")
            shown += 1
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--tokenizers", required=True)
    parser.add_argument("--text", nargs="+", required=True)
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--random", type=int, default=20000, help="random strings")
    parser.add_argument("--megabytes", type=float, default=1e9, help="of text, at most")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    sets = [("text", documents(args.text, args.megabytes, draw)), ("random", random_strings(args.random, draw))]
    failed = False
    for label, texts in sets:
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
            file.flush()
            for name in args.only:
                path, make = PEERS[name]
                path = os.path.join(args.tokenizers, path)
                if not os.path.exists(path):
                    print(f"{name}: left out, no {path}")
                    continue
                failed |= differences(f"{name}, {label}", path, make(path), args.program, texts, file.name) != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
