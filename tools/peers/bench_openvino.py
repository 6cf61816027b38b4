#!/usr/bin/env python3
"""OpenVINO GenAI reading or writing with a GGUF file: one warm-up, then a timed run; a line of JSON."""
import argparse
import json
import time

import numpy
import openvino
import openvino_genai


def timed_run(pipeline, prompt, new_tokens, seed):
    """Random tokens, so that nothing is known from an earlier run."""
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens, config.ignore_eos, config.do_sample = new_tokens, True, False
    ids = numpy.random.default_rng(seed).integers(1000, 20000, (1, prompt))
    inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
    return pipeline.generate(inputs, config).perf_metrics


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--mode", choices=("decode", "prefill"), required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    start = time.monotonic()
    pipeline = openvino_genai.LLMPipeline(args.model, "CPU", INFERENCE_NUM_THREADS=args.threads)
    loaded = time.monotonic() - start
    prompt, new_tokens = (1, args.tokens) if args.mode == "decode" else (args.tokens, 1)
    metrics = [timed_run(pipeline, prompt, new_tokens, seed) for seed in (1, 2)][-1]
    rate = metrics.get_throughput().mean if args.mode == "decode" else args.tokens * 1e3 / metrics.get_ttft().mean
    print(json.dumps({"tokens_per_second": rate, "load_seconds": loaded, "version": openvino_genai.__version__}))


if __name__ == "__main__":
    main()
