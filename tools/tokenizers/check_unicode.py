#!/usr/bin/env python3
"""Compares what `taipan` and the package `tokenizers` take each of Unicode's characters for.

For every class of characters that patterns use, and for the other parts of a tokenizer.json that look at characters
(normalizers, Digits, Punctuation, Whitespace), a small byte-level tokenizer is made: its ids show which characters the
class holds or what a normalizer made of them. Left out, as known to differ: \\p{Cn}, and U+1171E, which went from Mn to
Mc in Unicode 15.1. Exits 1 where a character differs, 77 where the package is not installed.
"""
import argparse
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile
import unicodedata

try:
    import tokenizers
except ImportError as error:
    print(f"skipped: {error.name} is not installed")
    sys.exit(77)

CLASSES = [rf"\p{{{name}}}" for name in
           "L M N P S Z Lu Ll Lt Lm Lo Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Han Hiragana "
           "Katakana Hangul Latin Greek Cyrillic Arabic Thai Devanagari ^L".split()]
CLASSES += [r"\P{L}", r"\s", r"\S", r"\w", r"\W", r"\d", r"\D", r"[\p{L}\P{N}]", r"[^\P{L}a-z]", r"[^\s\p{L}\p{N}]",
            r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"[\w]", r"[\W\d]", r"(?:\b|a)."]
CHUNK = 256


def alphabet():
    """ByteLevel's characters of the bytes."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    characters, more = {}, 256
    for byte in range(256):
        characters[byte] = chr(byte) if byte in kept else chr(more)
        more += byte not in kept
    return characters


def tokenizer_json(normalizer, pre_tokenizer):
    steps = [step for step in (pre_tokenizer, {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                                               "use_regex": False}) if step]
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
             "vocab": {character: byte for byte, character in alphabet().items()}, "merges": []}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": normalizer,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}, "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
            "model": model}


def split(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": False}


def cases():
    for pattern in CLASSES:
        yield pattern, tokenizer_json(None, split(pattern))
    for name in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase"):
        yield name, tokenizer_json({"type": name}, None)
    # These cut; removing what was not cut away from a space beside it shows where.
    for name, step in (("Digits", {"type": "Digits", "individual_digits": True}),
                       ("Punctuation", {"type": "Punctuation", "behavior": "Removed"}),
                       ("Whitespace", {"type": "Whitespace"}), ("WhitespaceSplit", {"type": "WhitespaceSplit"})):
        yield name, tokenizer_json(None, {"type": "Sequence", "pretokenizers": [step, split("^a(?!$)|(?<!^)a$")]})


def characters():
    """All but surrogates; of long runs of one category (ideographs, private use) every 61st and the ends."""
    codes = [code for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]
    for category, run in itertools.groupby(codes, lambda code: unicodedata.category(chr(code))):
        run = list(run)
        whole = len(run) < 400 or (category == "Cn" and run[0] < 0x20000)
        yield from map(chr, run if whole else run[:8] + run[8:-8:61] + run[-8:])


def texts():
    every = list(characters())
    for begin in range(0, len(every), CHUNK):
        part = every[begin:begin + CHUNK]
        yield part, "".join(f"a{character}a " for character in part)


def characters_of(ids):
    return bytes(ids).decode(errors="replace").split(" ")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/taipan", help="the taipan program")
    parser.add_argument("--only", nargs="*", help="the names of the cases")
    args = parser.parse_args()
    samples = list(texts())
    lines = "".join(json.dumps({"text": text}) + "\n" for _, text in samples)
    failures = 0
    for name, content in cases():
        if args.only and name not in args.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "tokenizer.json"
            path.write_text(json.dumps(content))
            theirs = tokenizers.Tokenizer.from_file(str(path))
            result = subprocess.run([args.program, "tokenizer", "encode", "--tokenizer", path, "--jsonl", "-"], input=lines,
                                    capture_output=True, text=True)
            if result.returncode != 0:
                print(f"{name}: {result.stderr.strip()}  FAILED")
                failures += 1
                continue
        different = []
        for (part, text), line in zip(samples, result.stdout.splitlines(), strict=True):
            ours, expected = json.loads(line)["ids"], theirs.encode(text).ids
            if ours != expected:
                pairs = zip(part, characters_of(ours), characters_of(expected))
                different += [f"U+{ord(c):04X}" for c, a, b in pairs if a != b] or [f"chunk of U+{ord(part[0]):04X}"]
        failures += bool(different)
        print(f"{name:30} {len(different)} differ{'' if not different else '  FAILED: '} {' '.join(different[:12])}", flush=True)
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
