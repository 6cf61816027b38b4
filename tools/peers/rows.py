"""The rows of the comparison: who runs against whom on what, what is read off the samples, and what is promised."""
import dataclasses
import statistics
from typing import Callable

from contenders import Llama, LlamaDecode, OpenVino, Ours, Torch, WholeProgram

GIB = 1 << 30
AMX_ROOF = 1200.0  # GFLOP/s: a bf16 roof above it is one of matrix tiles, hard to feed


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a case comes to, with the least and most of single rounds."""
    value: float
    least: float
    most: float


@dataclasses.dataclass(frozen=True)
class Target:
    bound: float
    at_most: bool = False

    def met(self, value):
        return value <= self.bound if self.at_most else value >= self.bound

    def describe(self, unit):
        return f"{'≤' if self.at_most else '≥'} {self.bound:g}{unit}"


# A contender's samples by round; the first contender is the one that the promise is about.
Samples = list[list[dict]]


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    contenders: list
    read: Callable[[Samples], Reading]
    target: Target | Callable[[Samples], Target] | None
    unit: str = " ×"
    rounds: int | None = None  # where the reading does not vary; else as asked for


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    what: str
    cases: Callable


def medians(samples, key="tokens_per_second"):
    return [statistics.median(s[key] for s in runs) for runs in samples]


def over_rounds(value, rounds):
    rounds = list(rounds)
    return Reading(value, min(rounds), max(rounds))


def speed_up(samples):
    """Rate of the first over that of the fastest other."""
    rates = medians(samples)
    best = rates.index(max(rates[1:]), 1)
    return over_rounds(rates[0] / rates[best],
                       (a["tokens_per_second"] / b["tokens_per_second"] for a, b in zip(samples[0], samples[best])))


def cost(samples):
    """Time a token of the first over that of the second."""
    up = speed_up(samples)
    return Reading(1 / up.value, 1 / up.most, 1 / up.least)


def share_of_roof(samples):
    return over_rounds(medians(samples, "share_of_roof")[0], (s["share_of_roof"] for s in samples[0]))


def peak_gib(samples):
    peaks = [s["peak_rss_bytes"] / GIB for s in samples[0]]
    return over_rounds(max(peaks), peaks)


def attention_seconds(sample, share, passes):
    seconds = {k["op"]: k["seconds"]["median"] for k in sample["report"]["kernels"]
               if abs(k.get("selected_share", -1) - share) < 1e-9}
    return sum(seconds[name] for name in passes)


def attention_share(*passes):
    """Time of the attention core at the usual share of queries over the time with every query."""
    def read(samples):
        shares = [attention_seconds(s, 0.15, passes) / attention_seconds(s, 1.0, passes) for s in samples[0]]
        return over_rounds(statistics.median(shares), shares)
    return read


def bf16_share_target(samples):
    return Target(0.55 if samples[0][0]["report"]["roof"]["gflops"] < AMX_ROOF else 0.38)


def train_options(context, batch=1, dtype="bf16", **more):
    return {"context": context, "batch-size": batch, "dtype": dtype, "warmup": 2, "runs": 1, **more}


def prefill_options(prompt, **more):
    short = prompt <= 512  # a pass takes a fraction of a second: the median of several is a sample
    return {"prompt": prompt, "dtype": "bf16", "warmup": 2, "runs": 5 if short else 1, **more}


def ours(setup, command, model, options, label="taipan"):
    """Where only the rate counts: without the roof, which costs time to measure."""
    return Ours(setup, command, model, options, label).with_flag("--no-roof")


def torch_train(setup, model, context, batch, candidates):
    return Torch(setup, model, {"mode": "train", "context": context, "batch-size": batch, "dtype": "autocast",
                                "warmup": 3}, candidates)


def train_mamba2(setup):
    candidates = [{"compile": "layer", "chunk": chunk} for chunk in (64, 32, 128)]
    candidates += [{"compile": "full", "chunk": 32}] if setup.thorough else []
    short, long = [ours(setup, "train", "mamba2-130m", train_options(n), f"taipan {n}") for n in (1024, 4096)]
    return [Case("context 1024", [short, torch_train(setup, "mamba2-130m", 1024, 1, candidates)], speed_up,
                 Target(4.5)),
            Case("context 4096 against 1024", [long, short], speed_up, Target(1.0))]


def train_llama(setup):
    return [Case("context 1024, 2 sequences",
                 [ours(setup, "train", "llama-190m", train_options(1024, 2)),
                  torch_train(setup, "llama-190m", 1024, 2, [{"compile": "layer"}])], speed_up, Target(1.5))]


def train_small(setup):
    candidates = [{"compile": "full", "chunk": chunk} for chunk in (64, 32)]
    return [Case("context 1024, 8 sequences",
                 [ours(setup, "train", "mamba2-small", train_options(1024, 8)),
                  torch_train(setup, "mamba2-small", 1024, 8, candidates)], speed_up, Target(4))]


def train_taipan(setup):
    return [Case("context 4096", [ours(setup, "train", model, train_options(4096), model)
                                  for model in ("taipan-130m", "mamba2-130m")], speed_up, Target(0.85))]


def roof_cases(setup, dtype, target):
    return [Case(f"{model}, context 1024",
                 [Ours(setup, "train", model, train_options(1024, 2 if model == "llama-190m" else 1, dtype))
                  # The roof beside every run: a machine that others share has none that holds for an hour.
                  .with_flag("--refresh")],
                 share_of_roof, target, " of the roof") for model in ("mamba2-130m", "llama-190m")]


def prefill_mamba2(setup):
    return [Case(f"{model}, {prompt} tokens",
                 [ours(setup, "prefill", model, prefill_options(prompt)),
                  Llama(setup, model, prompt, repeat=3 if prompt <= 512 else 1)], speed_up, Target(3))
            for model in ("mamba2-130m", "mamba2-370m") for prompt in (512, 4096, 16384)]


def prefill_llama(setup):
    candidates = [{"compile": "none"}, {"compile": "layer"}]
    return [Case(f"{prompt} tokens",
                 [ours(setup, "prefill", "llama-190m", prefill_options(prompt)),
                  Llama(setup, "llama-190m", prompt, repeat=3 if prompt <= 512 else 1),
                  Torch(setup, "llama-190m", {"mode": "prefill", "context": prompt, "dtype": "bf16",
                                              "warmup": 10 if prompt <= 512 else 2}, candidates,
                        repeat=5 if prompt <= 512 else 1)], speed_up, Target(1.2)) for prompt in (512, 4096)]


def prefill_long(setup):
    return [Case(f"{model}, 65536 tokens against 4096",
                 [ours(setup, "prefill", model, prefill_options(65536, warmup=0), f"{model} 65536"),
                  ours(setup, "prefill", model, prefill_options(4096), f"{model} 4096")],
                 speed_up, Target(0.95)) for model in ("mamba2-130m", "taipan-130m")]


def decode_options(context=0, **more):
    return {"context": context, "tokens": 64, "warmup": 1, "runs": 3, **more}


# Our type, llama.cpp's, then model, context and what is promised.
DECODE_Q8 = ("Q8_0", ["Q8_0"], [("mamba2-130m", 0, 1.5), ("mamba2-370m", 0, 1.2), ("llama-190m", 0, 1.15),
                                ("llama-190m", 4096, 1.6)])
DECODE_Q4 = ("Q4_0", ["Q4_0", "Q4_K_M"], [("mamba2-130m", 0, 1.2), ("mamba2-370m", 0, 1.2), ("llama-190m", 0, 1.2)])
DECODE_BF16 = ("BF16", ["BF16"], [("mamba2-130m", 0, 1.1), ("mamba2-370m", 0, 1.1), ("llama-190m", 0, 1.1)])


def our_decoding(setup, model, type, context=0, label=None, **more):
    dtype = "bf16" if type == "BF16" else "auto"
    return Ours(setup, "decode", model, decode_options(context, dtype=dtype, **more), label or f"taipan {type}", type)


def decode_cases(setup, what):
    ours_type, types, models = what
    return [Case(model + (f", after {context} tokens" if context else ""),
                 [our_decoding(setup, model, ours_type, context).with_flag("--no-roof"),
                  *(LlamaDecode(setup, model, type, context) for type in types)], speed_up, Target(target))
            for model, context, target in models]


def decode_q8(setup):
    ours = our_decoding(setup, "llama-190m", "Q8_0", 4096, **{"kv-dtype": "int8"}).with_flag("--no-roof")
    return decode_cases(setup, DECODE_Q8) + [
        Case("llama-190m, after 4096 tokens, keys and values of 8 bits",
             [ours, LlamaDecode(setup, "llama-190m", "Q8_0", 4096, cache="q8_0")], speed_up, Target(1.6))]


def decode_bandwidth(setup):
    return [Case(f"{model}, {type}", [our_decoding(setup, model, type).with_flag("--refresh")], share_of_roof,
                 Target(0.85), " of the bandwidth")
            for model in ("mamba2-130m", "mamba2-370m", "llama-190m") for type in ("BF16", "Q8_0", "Q4_0")] + [
        Case(f"{model}, bf16, in the cache",
             [Ours(setup, "decode", model, decode_options(dtype="bf16")).with_flag("--refresh")], share_of_roof,
             Target(0.5), " of the bandwidth") for model in ("taipan-1m", "taipan-8m")]


def decode_batch(setup):
    return [Case(model, [our_decoding(setup, model, "Q8_0", label=f"{n} at once", **{"batch-size": n})
                         .with_flag("--no-roof") for n in (8, 1)], speed_up, Target(target))
            for model, target in (("llama-190m", 5), ("mamba2-130m", 2.6))]


def of_fair_share(samples):
    """Rate beside a program that takes half of one of two CPUs, over three quarters of the rate alone."""
    alone, beside = medians(samples)[:2]
    return over_rounds(beside / alone / 0.75, (b["tokens_per_second"] / alone / 0.75 for b in samples[1]))


def decode_busy(setup):
    ours = lambda label: our_decoding(setup, "mamba2-130m", "Q8_0", label=label).with_flag("--no-roof")
    peer = lambda label: LlamaDecode(setup, "mamba2-130m", "Q8_0", label=label)
    return [Case("mamba2-130m, taipan", [ours("alone"), ours("beside").beside_busy_process()], of_fair_share,
                 Target(0.8), " of the fair share"),
            Case("mamba2-130m, llama.cpp", [peer("alone"), peer("beside").beside_busy_process()], of_fair_share, None,
                 " of the fair share")]


def openvino_cases(setup):
    file = setup.text_model
    if not file:
        return []
    ours = lambda mode, options: Ours(setup, mode, file.stem, options, file=file).with_flag("--no-roof")
    return [Case(f"{file.stem}, 64 tokens", [ours("decode", decode_options()), OpenVino(setup, "decode", file, 64)],
                 speed_up, Target(1)),
            Case(f"{file.stem}, prompt of 4096",
                 [ours("prefill", {"prompt": 4096, "warmup": 1, "runs": 1}), OpenVino(setup, "prefill", file, 4096)],
                 speed_up, Target(1))]


def first_token(setup):
    """The rates are of whole programs: starts a second."""
    file = setup.text_model
    if not file:
        return []
    prompt, threads = "Once upon a time", str(setup.threads)
    taipan = [str(setup.program), "generate", "--model", str(file), "--prompt", prompt, "--max-tokens", "1",
              "--temperature", "0", "--threads", threads]
    llama = [str(setup.llama_completion), "-m", str(file), "-p", prompt, "-n", "1", "--temp", "0", "-no-cnv",
             "--no-warmup", "-t", threads]
    return [Case(f"{file.stem}, start to end of one token",
                 [WholeProgram("taipan", taipan, file), WholeProgram("llama.cpp", llama, file)], speed_up, Target(1))]


def train_context(setup):
    return [Case("context 32768 against 4096",
                 [ours(setup, "train", "taipan-130m", train_options(32768, warmup=1), "taipan 32768"),
                  ours(setup, "train", "taipan-130m", train_options(4096), "taipan 4096")],
                 cost, Target(1.1, at_most=True))]


def attention_cases(setup):
    contender = Ours(setup, "kernels", "taipan-130m", {"only": "attention", "tokens": 8192, "dtype": "bf16", "runs": 5})
    return [Case(name, [contender], attention_share(*passes), Target(0.25, at_most=True))
            for name, passes in (("forward", ["attention"]),
                                 ("forward and backward", ["attention", "attention backward"]))]


def memory_cases(setup):
    return [Case(f"context 4096, recompute {what}",
                 [ours(setup, "train", "taipan-130m", train_options(4096, recompute=what))],
                 peak_gib, Target(most, at_most=True), " GiB", rounds=2)
            for what, most in (("none", 5), ("mixer", 5), ("block", 3.5))]


ROWS = [
    Row("train-mamba2", "training, mamba2-130m, bf16, against PyTorch", train_mamba2),
    Row("train-llama", "training, llama-190m, bf16, against PyTorch", train_llama),
    Row("train-small", "training, mamba2-small, bf16, against PyTorch", train_small),
    Row("train-taipan", "training, taipan-130m against mamba2-130m, bf16", train_taipan),
    Row("roof-bf16", "training in bf16, share of the bf16 roof", lambda s: roof_cases(s, "bf16", bf16_share_target)),
    Row("roof-f32", "training in f32, share of the f32 roof", lambda s: roof_cases(s, "f32", Target(0.65))),
    Row("prefill-mamba2", "prefill, Mamba-2, bf16, against llama.cpp", prefill_mamba2),
    Row("prefill-llama", "prefill, llama-190m, bf16, against llama.cpp and PyTorch", prefill_llama),
    Row("prefill-long", "prefill of 65536 tokens against 4096, bf16", prefill_long),
    Row("decode-q8", "decoding, Q8_0, against llama.cpp", decode_q8),
    Row("decode-q4", "decoding, 4 bits, against the better of llama.cpp's Q4_0 and Q4_K_M",
        lambda s: decode_cases(s, DECODE_Q4)),
    Row("decode-bf16", "decoding, bf16, against llama.cpp", lambda s: decode_cases(s, DECODE_BF16)),
    Row("decode-bandwidth", "decoding, share of the bandwidth of reading as many bytes", decode_bandwidth),
    Row("decode-batch", "decoding 8 sequences against one, Q8_0", decode_batch),
    Row("decode-busy", "decoding beside a busy process, Q8_0, against the fair share of 3/4", decode_busy),
    Row("openvino", "decoding and prefill of a GGUF file, against OpenVINO GenAI", openvino_cases),
    Row("first-token", "start to first token of a GGUF file (rates: starts a second), against llama.cpp", first_token),
    Row("train-context", "training cost a token at context 32768 against 4096, taipan-130m, bf16", train_context),
    Row("attention", "attention core at 0.15 of the queries against all, window 2048, bf16", attention_cases),
    Row("memory", "peak memory to train taipan-130m, AdamW, bf16", memory_cases),
]
