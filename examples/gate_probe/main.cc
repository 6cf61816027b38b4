// Writes, for each token of a text, what a gate could read (the residual stream after every layer, the token's
// surprise) and what attending is worth there, as rows of float32 for tools/studies/gate_probe.py: the residual streams
// [layers + 1, T, d_model], then margin, alpha and benefit [3, T] of each SAL, then surprise [T]. The figures of
// docs/gate.md come from here.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "base/error.h"
#include "infer/gate_benefit.h"
#include "model/model_files.h"
#include "model/selection.h"
#include "text/tokenizer.h"

namespace {

using namespace taipan;  // NOLINT: an example

struct Options {
  std::string model, text, out;
  int64_t tokens = 32768, context = 1024;
};

std::vector<int32_t> FirstTokens(const Options& o) {
  std::ifstream in(o.text, std::ios::binary);
  if (!in) throw UserError(o.text, "cannot be read");
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  std::vector<int32_t> tokens = LoadTokenizer(o.model)->Encode(text);
  if (std::ssize(tokens) < o.tokens) {
    throw UserError({o.text, "too short", std::to_string(o.tokens) + " tokens", std::to_string(tokens.size())});
  }
  tokens.resize(static_cast<size_t>(o.tokens));
  return tokens;
}

// [layer + 1][T * d_model], by the rule of use.
std::vector<std::vector<float>> ResidualStreams(const LanguageModel& model, const SelectionTrace& trace) {
  std::vector<std::vector<float>> streams(static_cast<size_t>(model.config().num_layers() + 1));
  ForwardContext context;
  trace.ForEachWindow([&](int64_t begin, int64_t length) {
    Batch batch;
    batch.tokens.assign(trace.tokens.begin() + begin, trace.tokens.begin() + begin + length);
    batch.targets.assign(static_cast<size_t>(length), -1);
    batch.segments.push_back({.begin = 0, .length = length, .row = 0});
    const auto keep = [&](int64_t layer, ConstMatrixView h) {
      std::vector<float>& stream = streams[static_cast<size_t>(layer + 1)];
      for (int64_t i = 0; i < length; ++i) stream.insert(stream.end(), h.As<float>(i), h.As<float>(i) + h.cols);
    };
    model.Forward(batch, InferenceGate(model.config()), /*keep=*/false, context, keep);
  });
  return streams;
}

void Run(const Options& o) {
  const LanguageModel model = LoadModel(o.model);
  const std::vector<int32_t> tokens = FirstTokens(o);
  const SelectionTrace trace = TraceSelection(model, tokens, o.context, o.text);
  const std::vector<std::vector<double>> benefits = FirstOrderBenefits(model, trace);
  std::ofstream out(o.out, std::ios::binary);
  const auto write = [&](const auto& values) {
    const std::vector<float> floats(values.begin(), values.end());
    out.write(reinterpret_cast<const char*>(floats.data()),
              static_cast<std::streamsize>(floats.size() * sizeof(float)));
  };
  for (const std::vector<float>& stream : ResidualStreams(model, trace)) write(stream);
  for (size_t s = 0; s < trace.sals.size(); ++s) {
    write(trace.sals[s].margin);
    write(trace.sals[s].alpha);
    write(benefits[s]);
  }
  write(Surprises(model, trace));
  if (!out.flush()) throw UserError(o.out, "cannot be written");
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("What a gate could read at each token of a text, and what attending is worth there");
  app.add_option("--model", o.model, "folder of a model with selective layers")->required();
  app.add_option("--text", o.text, "file")->required();
  app.add_option("--out", o.out, "file of float32")->required();
  app.add_option("--tokens", o.tokens, "the text's first")->capture_default_str();
  app.add_option("--context", o.context, "tokens of a window")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    Run(o);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "gate_probe: error: %s\n", e.what());
    return 1;
  }
  return 0;
}
