#!/usr/bin/env python3
"""Checks the word patterns of tokenizer.ggml.pre: ids of `taipan` against those of llama.cpp's own tokenizer.

For every name a tiny GGUF file is made whose vocabulary has a token for each pair of about a hundred characters, so that
a cut between any two of them changes the ids. Given texts and random strings of these characters are tokenized by llama.cpp
(package llama-cpp-python or xllamacpp) and by this program, on the GGUF file's tokenizer as `convert` writes it to a
folder. Exits 1 where ids differ, 77 where a package is not installed.

    python3 tools/interchange/check_llama_words.py [--program build/taipan] [--random N] [--values] [NAME ...]

--values prints what the unit test src/text/gguf/gguf_pre_tokenization_test.cc compares with.
"""
import argparse
import ctypes
import json
import pathlib
import random
import subprocess
import sys
import tempfile

try:
    import gguf
    import numpy as np
    try:
        import llama_cpp
        LIBRARY = llama_cpp.llama_cpp._lib
    except ImportError:
        import xllamacpp.xllamacpp
        LIBRARY = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
except ImportError as error:
    print(f"skipped: {error.name} is not installed")
    sys.exit(77)

NAMES = """a.x-4.0 afmoe bailingmoe bailingmoe2 bloom chameleon chatglm-bpe codeshell cohere2moe command-r dbrx deepseek-coder
deepseek-llm deepseek-r1-qwen deepseek-v3 default exaone exaone-moe exaone4 f2llmv2 falcon falcon-h1 falcon3 gigachat glm4
glm5 gpt-2 gpt-4o gpt3-finnish granite-docling granite-embed-multi-97m grok-2 hunyuan hunyuan-dense hy_v4 jais jais-2
jina-de jina-es jina-v1-en jina-v2-code jina-v2-de jina-v2-es jina-v5-nano joyai-llm kanana2 kimi-k2 kormo laguna lfm2
llada-moe llama-bpe llama-v3 llama3 llama4 megrez mellum mellum2 midm-2.0 minerva-7b minicpm5 minimax-m2 modern-bert mpt
olmo phi-2 pixtral poro-chat qwen2 qwen35 refact roberta-bpe seed-coder smaug-bpe smollm solar-open spark2_5 stablelm2
starcoder superbpe talkie tekken tiny_aya trillion ufakzeka viking youtu""".split()
UNKNOWN = ("gemma4", "granite-embed-multi-311m", "sarvam-moe", "whitespace", "no-such-pattern")  # refused by name

ASCII = "abzABZstrevldm0123789'.,!?()|/-_~^$+<>=`@[]\\{}:;#\"&*% \t\n\r\v"
BEYOND = ("\u00e9\u00c9\u00df\u01c5\u02b0\u00aa\u01bb\u0431\u0411\u4f60\u597d\u9fa5\u9fa6\ud55c\u3131\u3105\u3042\u30a2\uff71"
          "\u0915\u093f\u094d\u0627\u0e31\u0e01\u1780\u0301\u0663\u2167\u00b2\u3007\u2026\u3002\uff0c\u3001\u0964\u201c"
          "\u2019\u20ac\uff1b\uff01\uff5e\ufe30\u00a0\u3000\u2003\u0085\u2028\u200d\u00ad\U0001f600\U00010400\U00010428"
          "\ue000\u0378\ufffd")
CHARACTERS = ASCII + BEYOND
# Of the unit test: short, with something for every pattern.
UNIT_TEXT = ("It's IT'S 1234567 x1 y=~a_b/\n\r\n  a.B(c|d)!!  \tz\u4f60\u597d\u3002\uff13\u304b \u30cf\ud55c\uae00 \u0915\u093f\u00e9"
             "'\u00c9a\u0411\u0431\u00e9\u2026\u3000q\u3000 <12>\n \n  aBcdE x's b\u00e9\u0411b \u0915\u0915\u093f\u0915 a b c?!\n\n.     I")
WHOLE_WORDS = ["zebra", " zebra", "12", "...zz", "\n\n\n"]  # that no merge gives: for ignore_merges
TEXTS = [
    "Hello world! It's 2024, isn't IT'S?  I'll  they'RE 'd 've\n", "x = 1234567 + 0.5e-10;\n\tif (a[3] != b) { return; }\r\n\r\n",
    "  leading   and trailing   \n  \n\n   ", "\u4f60\u597d\uff0c\u4e16\u754c\u3002123\u4f60 \u3053\u3093\u306b\u3061\u306f\u30ab\u30bf\u30ab\u30ca",
    "\ud55c\uad6d\uc5b4 \ud14d\uc2a4\ud2b8 1234", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u00c9COLE \u00e9t\u00e9 camelCaseHTTPServer",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e \u0665\u0666\u0667\u0668", "\U0001f600\U0001f680 emoji\u200d\U0001f468\u200d\U0001f469!!! ~~~ ^_^ $5.00 <|x|>",
    "zebra zebra 12 ...zz\n\n\n", "<sentinel:12> IMGIMGABZ    four  two", "a\u3000b\u00a0c\u2003\u2003d\u0085e", "", "'", " ", "1 22 333 4444 55555 666666",
]


class Parameters(ctypes.Structure):
    """llama_model_params, whose fields differ from version to version: room enough for any."""
    _fields_ = [("room", ctypes.c_uint64 * 64)]


LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, data: None)
LIBRARY.llama_model_default_params.restype = Parameters
LIBRARY.llama_model_load_from_file.argtypes = [ctypes.c_char_p, Parameters]
LIBRARY.llama_model_load_from_file.restype = ctypes.c_void_p
LIBRARY.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
LIBRARY.llama_model_get_vocab.restype = ctypes.c_void_p
LIBRARY.llama_model_free.argtypes = [ctypes.c_void_p]
LIBRARY.llama_tokenize.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32,
                                   ctypes.c_bool, ctypes.c_bool]


def alphabet():
    """GPT-2's characters of the bytes."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    more = iter(range(256, 512))
    return [chr(byte) if byte in kept else chr(next(more)) for byte in range(256)]


def vocabulary(characters, shuffled):
    """Tokens and merges: the bytes, each character, each pair of characters, perhaps in an order drawn at random."""
    letters = alphabet()
    tokens, merges = list(letters), []

    def add(left, right):
        if left + right not in seen:
            seen.add(left + right)
            tokens.append(left + right)
        merges.append(f"{left} {right}")

    seen = set(tokens)
    spelled = []
    for character in characters:
        units = [letters[byte] for byte in character.encode()]
        for i in range(1, len(units)):
            if f"{''.join(units[:i])} {units[i]}" not in merges:
                add("".join(units[:i]), units[i])
        spelled.append("".join(units))
    pairs = [(a, b) for a in spelled for b in spelled]
    if shuffled:
        random.Random(1).shuffle(pairs)
    known = set(merges)
    for a, b in pairs:
        if f"{a} {b}" not in known:
            add(a, b)
    for word in WHOLE_WORDS:
        spelling = "".join(letters[byte] for byte in word.encode())
        if spelling not in seen:
            seen.add(spelling)
            tokens.append(spelling)
    return tokens + ["<s>", "</s>"], merges


def write_model(path, pre, tokens, merges):
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(8)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(8)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - 2) + [3, 3])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(len(tokens) - 2)
    writer.add_eos_token_id(len(tokens) - 1)
    shapes = {"token_embd": (len(tokens), 8), "output_norm": (8,)}
    shapes |= {f"blk.0.{name}": (8, 8) for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")}
    shapes |= {f"blk.0.{name}": (8,) for name in ("attn_norm", "ffn_norm")}
    for name, shape in shapes.items():
        writer.add_tensor(name + ".weight", np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_ids(path, texts):
    model = LIBRARY.llama_model_load_from_file(str(path).encode(), LIBRARY.llama_model_default_params())
    if not model:
        return None
    vocab = LIBRARY.llama_model_get_vocab(model)
    all_ids = []
    for text in texts:
        data = text.encode()
        room = (ctypes.c_int32 * (len(data) + 8))()
        count = LIBRARY.llama_tokenize(vocab, data, len(data), room, len(room), True, False)
        all_ids.append(list(room[:count]))
    LIBRARY.llama_model_free(model)
    return all_ids


def run(*arguments, text=None):
    """Standard output, or what is said on the other."""
    result = subprocess.run([*map(str, arguments)], capture_output=True, text=True, input=text)
    return result.stdout if result.returncode == 0 and result.stdout else result.stderr.strip().replace("\n", " ")


def our_ids(program, path, texts):
    folder = path.with_suffix("")
    message = run(program, "convert", path, folder)
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    out = run(program, "tokenizer", "encode", "--tokenizer", folder, "--add-special-tokens", "--jsonl", "-", text=lines)
    try:
        return [json.loads(line)["ids"] for line in out.splitlines()]
    except ValueError:
        return message or out


def random_texts(count):
    source = random.Random(7)
    weighted = CHARACTERS + "ab12 \n" * 12 + "  ''sLl\n"
    texts = []
    while len(texts) < count:
        pieces = [source.choice(weighted) * source.choice((1, 1, 1, 2, 3, 5)) for _ in range(source.randint(1, 12))]
        text = "".join(pieces)
        texts.append(text)
    return texts


def print_values(names):
    """Of each name how many characters each token of UNIT_TEXT has: all are bytes of one or two characters."""
    tokens, merges = vocabulary(dict.fromkeys(UNIT_TEXT), False)
    bytes_of = {letter: byte for byte, letter in enumerate(alphabet())}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.gguf"
        for name in names:
            write_model(path, name, tokens, merges)
            ids = llama_ids(path, [UNIT_TEXT])[0]
            texts = [bytes(bytes_of[letter] for letter in tokens[i]).decode() for i in ids if i < len(tokens) - 2]
            digits = "".join(str(len(text)) for text in texts)
            print(f'      {{"{name}", "{digits}"}},')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/taipan", help="the taipan program")
    parser.add_argument("--random", type=int, default=400, help="random strings a name (default 400)")
    parser.add_argument("--values", action="store_true", help="print what gguf_pre_tokenization_test.cc compares with")
    parser.add_argument("names", nargs="*", help="names of tokenizer.ggml.pre (default: all that are known)")
    args = parser.parse_args()
    LIBRARY.llama_log_set(LOG, None)
    LIBRARY.llama_backend_init()
    if args.values:
        print_values(args.names or NAMES)
        return
    tokens, merges = vocabulary(CHARACTERS, True)
    texts = TEXTS + random_texts(args.random)
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.gguf"
        for name in args.names or [*NAMES, *UNKNOWN]:
            write_model(path, name, tokens, merges)
            ours = our_ids(args.program, path, texts)
            if name in UNKNOWN:
                good = isinstance(ours, str) and f"found {name}" in ours
                print(f"{name:26} {'refused' if good else 'FAILED: ' + str(ours)[:200]}")
                failures += not good
            else:
                theirs = llama_ids(path, texts)
                if theirs is None or isinstance(ours, str):
                    print(f"{name:26} FAILED: {'llama.cpp does not load it' if theirs is None else ours}")
                    failures += 1
                else:
                    different = [text for text, a, b in zip(texts, ours, theirs, strict=True) if a != b]
                    print(f"{name:26} {len(texts)} texts, {len(different)} differ"
                          f"{'  FAILED ' + ascii(min(different, key=len)) if different else ''}", flush=True)
                    failures += bool(different)
            subprocess.run(["rm", "-rf", str(path), str(path.with_suffix(""))], check=True)
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
