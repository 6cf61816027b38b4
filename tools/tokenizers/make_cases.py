#!/usr/bin/env python3
"""Writes tests/golden/tokenizers/cases.json: small tokenizers of every supported kind with ids and decoded texts as the Python
package `tokenizers` gives them. The unit tests of folder `text` compare with them.

    python3 tools/tokenizers/make_cases.py > tests/golden/tokenizers/cases.json
"""
import json
import sys

from tokenizers import Tokenizer

TEXTS = [
    "",
    " ",
    "Hello world, it's the tokenizer's test!",
    "  two  spaces\tand\n\nlines \r\n  ",
    "I'M they'Re we'd'll x'\u017fy 'quoted' don''t",
    "in 1999 and 12345678 \u0663\u0664 \u00bd\u00b2 \u2167 3.14e-10",
    "caf\u00e9 cafe\u0301 \u00c5ngstr\u00f6m \ufb01n\u00e6 \uff26\uff55\uff4c\uff4c \u2460\u33a0",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u3053\u3093\u306b\u3061\u306f \ud55c\uad6d\uc5b4 \u1112\u1161\u11ab",
    "\U0001f40d\U0001f469\u200d\U0001f52c emoji \u2028 sep \u00a0nbsp\u3000wide \u180e \u0085",
    "<s>text</s> <|end|>stop <|end|> xword word_word wordword word.word  <pad>  a",
    "\u2581under \u2581\u2581two <0x41> \u0120G_\u010a",
    "def f(x):\n    return x**2  # comment\n\n\n",
    "a\u0323\u0307b a\u0307\u0323b \u0041\u030a \u1e9b\u0323 \u0130I\u03a3\u03c3",
]

ALPHABET = {}


def byte_alphabet():
    if not ALPHABET:
        following = 256
        for b in range(256):
            if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b <= 0xFF:
                ALPHABET[b] = chr(b)
            else:
                ALPHABET[b] = chr(following)
                following += 1
    return [ALPHABET[b] for b in range(256)]


def spell(text):
    table = byte_alphabet()
    return "".join(table[b] for b in text.encode())


def with_merges(symbols, pairs, **settings):
    vocab = {s: i for i, s in enumerate(dict.fromkeys(symbols))}
    merges = []
    for left, right in pairs:
        vocab.setdefault(left + right, len(vocab))
        merges.append([left, right])
    return {"type": "BPE", "vocab": vocab, "merges": merges, **settings}


def chain(words):
    """Merges that build the words from the left."""
    pairs = []
    for word in words:
        for i in range(1, len(word)):
            if (word[:i], word[i]) not in pairs:
                pairs.append((word[:i], word[i]))
    return pairs


BYTE_PAIRS = chain([spell(w) for w in [" the", "he", "ll", " world", "tok", " a", "in", "123", "  ", "\n\n", "\u4e16", "'s"]])
CHARACTERS = list("abcdefghijklmnopqrstuvwxyzHIT.,!?'-\u2581\u4f60\u597d\u00e9\u0301") + ["\U0001f40d"]
CHARACTER_PAIRS = chain(["\u2581the", "he", "ll", "\u2581w", "\u4f60\u597d", "in", "\u2581\u2581"])
BYTES = ["<0x%02X>" % b for b in range(256)]

MODELS = {
    "bytes": with_merges(byte_alphabet(), BYTE_PAIRS),
    "bytes-ignore": {**with_merges(byte_alphabet(), BYTE_PAIRS), "ignore_merges": True},
    "bytes-few": with_merges(["?"] + byte_alphabet()[33:127], chain(["he", "in"]), unk_token="?", fuse_unk=True),
    "fallback": with_merges(["<unk>", "<s>", "</s>"] + BYTES + CHARACTERS, CHARACTER_PAIRS, unk_token="<unk>",
                            byte_fallback=True, fuse_unk=True),
    "unknown": with_merges(["<unk>"] + CHARACTERS, CHARACTER_PAIRS, unk_token="<unk>"),
    "fused": with_merges(["<unk>"] + CHARACTERS, CHARACTER_PAIRS, unk_token="<unk>", fuse_unk=True),
    "dropped": with_merges(CHARACTERS, CHARACTER_PAIRS),
}
MODELS["bytes-ignore"]["vocab"][spell(" tokenizer")] = len(MODELS["bytes-ignore"]["vocab"])


def byte_level(prefix=False, regex=True):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(*steps, key="pretokenizers"):
    return {"type": "Sequence", key: list(steps)}


def added(id, content, **flags):
    token = {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": False}
    return {**token, **flags}


CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
REST = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
LLAMA3 = CONTRACTIONS + "\\p{N}{1,3}" + REST
QWEN2 = CONTRACTIONS + "\\p{N}" + REST
O200K = ("[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
BLOOM = " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"
BYTES_BACK = byte_level(True)
LLAMA_DECODER = sequence({"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
                         {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}, key="decoders")
LLAMA_NORMALIZER = sequence({"type": "Prepend", "prepend": "\u2581"},
                            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}, key="normalizers")


def case(name, model="bytes", pre=None, decoder=BYTES_BACK, normalizer=None, post=None, tokens=()):
    return {"name": name, "model": model, "added_tokens": list(tokens), "normalizer": normalizer, "pre_tokenizer": pre,
            "post_processor": post, "decoder": decoder}


def metaspace(**more):
    return {"type": "Metaspace", "replacement": "\u2581", **more}


def all_cases():
    yield case("gpt2", pre=byte_level())
    yield case("gpt2 ignore_merges", "bytes-ignore", pre=byte_level())
    yield case("prefix space", pre=byte_level(prefix=True))
    yield case("no regex", pre=byte_level(prefix=True, regex=False))
    yield case("few bytes", "bytes-few", pre=byte_level())
    for name, pattern in [("llama3", LLAMA3), ("qwen2", QWEN2), ("o200k", O200K), ("bloom", BLOOM)]:
        yield case(name, pre=sequence(split(pattern), byte_level(regex=False)))
    for name, pattern in [("word boundary", "\\b\\w+\\b|\\W"), ("ruby repeats", "\\d{1,2}+|\\h+?|\\s{,2}x|[\\S\\s]"),
                          ("lines", "^.|.$|(?m:b.)"), ("lazy", "\\p{L}{2}?|\\u0061+"), ("empty matches", "x*")]:
        yield case(name, pre=sequence(split(pattern), byte_level(regex=False)))
    yield case("smollm", pre=sequence({"type": "Digits", "individual_digits": True}, byte_level()))
    yield case("falcon", pre=sequence({"type": "Punctuation", "behavior": "Contiguous"}, byte_level(),
                                      {"type": "Digits", "individual_digits": False}, split("[0-9][0-9][0-9]")))
    yield case("deepseek", pre=sequence(split("\\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
                                        split(LLAMA3), byte_level(regex=False)))
    for behavior in ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
        for invert in [False, True]:
            yield case(f"{behavior} {invert}", pre=sequence(split("[aeiou ]", behavior, invert), byte_level(regex=False)))
        yield case(f"{behavior} string", pre=sequence(split("wo", behavior, kind="String"), byte_level(regex=False)))
        yield case(f"punctuation {behavior}", pre=sequence({"type": "Punctuation", "behavior": behavior},
                                                           byte_level(regex=False)))
    for kind in ["Whitespace", "WhitespaceSplit"]:
        yield case(kind, pre=sequence({"type": kind}, byte_level(regex=False)))
    yield case("delimiter", pre=sequence({"type": "CharDelimiterSplit", "delimiter": "e"}, byte_level(regex=False)))
    for form in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase"]:
        yield case(form, pre=byte_level(), normalizer={"type": form})
    for left in [False, True]:
        yield case(f"strip {left}", pre=byte_level(),
                   normalizer={"type": "Strip", "strip_left": left, "strip_right": not left})
    yield case("replace regex", pre=byte_level(), normalizer=sequence(
        {"type": "Replace", "pattern": {"Regex": " {2,}|\\s$"}, "content": "_"}, {"type": "NFC"}, {"type": "Lowercase"},
        key="normalizers"))
    for scheme in ["always", "first", "never"]:
        for cut in [False, True]:
            yield case(f"metaspace {scheme} {cut}", "fallback", pre=metaspace(prepend_scheme=scheme, split=cut),
                       decoder=metaspace(prepend_scheme=scheme), tokens=[added(1, "<s>", special=True)])
    for model in ["unknown", "fused", "dropped"]:
        yield case(f"metaspace {model}", model, pre=metaspace(), decoder=metaspace())
    template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                                                         {"Sequence": {"id": "A", "type_id": 0}},
                                                         {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]},
                                               "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}}
    yield case("llama2", "fallback", decoder=LLAMA_DECODER, normalizer=LLAMA_NORMALIZER,
               post=sequence(byte_level(), template, key="processors"),
               tokens=[added(1, "<s>", special=True), added(2, "</s>", special=True)])
    yield case("strip both ends", "fallback", pre=None, normalizer=LLAMA_NORMALIZER, decoder=sequence(
        {"type": "Fuse"}, {"type": "Replace", "pattern": {"String": "\u2581w"}, "content": "<W>"},
        {"type": "Strip", "content": "\u2581", "start": 2, "stop": 3}, key="decoders"))
    yield case("strip tokens", "fallback", normalizer=LLAMA_NORMALIZER, decoder=sequence(
        {"type": "ByteFallback"}, {"type": "Strip", "content": "e", "start": 1, "stop": 1}, key="decoders"))
    yield case("no decoder", "fallback", decoder=None)
    start = len(MODELS["bytes"]["vocab"])
    for flags in [{}, {"lstrip": True}, {"rstrip": True}, {"single_word": True}, {"lstrip": True, "rstrip": True},
                  {"normalized": True}]:
        contents = ["<|end|>", "word", " ", "  ", "<pad>", "\u00c5ng", "wordword"]
        yield case(f"added {flags}", pre=byte_level(), normalizer={"type": "NFC"}, tokens=[
            added(start + i, c, special=i == 0, **flags) for i, c in enumerate(contents)])


def main():
    cases = []
    for c in all_cases():
        tokenizer = Tokenizer.from_str(json.dumps({"version": "1.0", **{k: v for k, v in c.items() if k not in ("name", "model")},
                                                    "model": MODELS[c["model"]]}))
        plain, special, decoded = [], [], []
        for text in TEXTS:
            tokenizer.encode_special_tokens = True
            plain.append(tokenizer.encode(text, add_special_tokens=False).ids)
            tokenizer.encode_special_tokens = False
            ids = tokenizer.encode(text, add_special_tokens=True).ids
            special.append(ids)
            try:
                decoded.append(tokenizer.decode(ids, skip_special_tokens=False))
            except BaseException:  # its Strip fails on tokens shorter than `stop`
                decoded.append(None)
        cases.append({**c, "plain": plain, "special": special, "decoded": decoded})
    json.dump({"texts": TEXTS, "models": MODELS, "cases": cases}, sys.stdout, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
