// taipan bench latency: time and memory against the length of the context, several models side by side.

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/files.h"
#include "cli/bench/bench_reader.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/length_list.h"
#include "cli/model_argument.h"
#include "infer/sequence_reader.h"
#include "model/memory_plan.h"
#include "plot/plot.h"

namespace taipan {
namespace {

struct LatencyOptions {
  std::vector<std::string> models = {"transformer-8m", "jamba-8m", "samba-8m", "mamba2-8m", "taipan-8m"};
  std::string lengths = "1K,2K,4K,8K,16K,32K", out;
  ComputeType dtype = ComputeType::kAuto;
  KvType kv_dtype = KvType::kAuto;
  int64_t tokens = 32, runs = 3, time_limit = 600;
  bool json = false;
};

struct Point {
  int64_t length = 0;
  bool predicted = false;
  double prefill_seconds = 0;  // of the whole prompt
  double token_seconds = 0;    // of a token generated after it
  int64_t state_bytes = 0;     // of the sequence
};

struct Curve {
  std::string model;
  int64_t parameters = 0;
  std::vector<Point> points;
  std::string stopped;  // why the rest is predicted
};

double MedianOf(std::vector<double> values) { return SpreadOf(std::move(values)).median; }

// The curve a L + b L^2 (a + b L where `per_token`) through the last two measured points, or the last alone.
double Extrapolated(const std::vector<Point>& points, double Point::*what, int64_t length, bool per_token) {
  const Point& last = points.back();
  const auto mean = [&](const Point& p) { return per_token ? p.*what : p.*what / static_cast<double>(p.length); };
  double slope = 0;
  if (points.size() > 1) {
    const Point& before = points[points.size() - 2];
    slope = std::max(0.0, (mean(last) - mean(before)) / static_cast<double>(last.length - before.length));
  }
  const double value = mean(last) + slope * static_cast<double>(length - last.length);
  return per_token ? value : value * static_cast<double>(length);
}

// The plan counts f32; a run may keep keys and values in fewer bytes, as the last measured point shows.
int64_t StateBytes(const ModelConfig& config, const std::vector<Point>& measured, int64_t length) {
  const auto planned = [&](int64_t tokens) {
    return static_cast<double>(PlanMemory(config, {tokens}).run.front().state_bytes());
  };
  if (measured.empty()) return static_cast<int64_t>(planned(length));
  const Point& last = measured.back();
  return static_cast<int64_t>(planned(length) * static_cast<double>(last.state_bytes) / planned(last.length));
}

// Generation after `state`, which stays: the median time of a token.
double TokenSeconds(const LatencyOptions& o, const SequenceState& state, int32_t last, BenchReader& reader) {
  std::vector<double> seconds;
  for (int64_t run = 0; run < o.runs; ++run) {
    std::vector<SequenceState> states = {state};
    std::vector<int32_t> next = {last};
    reader.Step(next, states);  // pages of keys that the copy shares become its own
    const double start = NowSeconds();
    for (int64_t i = 0; i < o.tokens; ++i) reader.Step(next, states);
    seconds.push_back((NowSeconds() - start) / static_cast<double>(o.tokens));
  }
  return MedianOf(seconds);
}

// Why the next length is not measured; empty: it is.
std::string ReasonToStop(const LatencyOptions& o, const ModelConfig& config, const std::vector<Point>& points,
                         int64_t length) {
  const int64_t needed = 2 * StateBytes(config, points, length);  // and a copy that is generated on
  const int64_t free = AvailableMemoryBytes() + (points.empty() ? 0 : points.back().state_bytes);
  if (needed > free) {
    return fmt::format("{} tokens need {} of memory, {} are free", LengthText(length), FormatBytes(needed),
                       FormatBytes(free));
  }
  if (points.empty()) return "";
  const double seconds = Extrapolated(points, &Point::prefill_seconds, length, false);
  if (seconds <= static_cast<double>(o.time_limit)) return "";
  return fmt::format("{} tokens would take {:.0f} s, more than --time-limit", LengthText(length), seconds);
}

// One pass over the longest prompt: each length is a stop on it.
Curve CurveOf(const LatencyOptions& o, const std::string& model, const std::vector<int64_t>& lengths) {
  BenchOptions options;
  options.model = model;
  options.dtype = o.dtype;
  options.kv_dtype = o.kv_dtype;
  const BenchModel bench = LoadToBench(options);
  const ModelConfig& config = bench.model.config();
  BenchReader reader(bench);
  Curve curve{.model = model, .parameters = PlanMemory(config, {1}).parameter_count, .points = {}, .stopped = ""};
  CountProgress progress(model + ":", lengths.back());
  SequenceState warm, state;
  reader.Prefill(RandomTokens(PieceLength(config), config.vocab_size), PieceLength(config), warm);
  double seconds = 0;
  std::vector<Point> predicted;
  for (const int64_t length : lengths) {
    if (curve.stopped.empty()) curve.stopped = ReasonToStop(o, config, curve.points, length);
    if (!curve.stopped.empty()) {
      if (curve.points.empty()) break;
      predicted.push_back({length, true, Extrapolated(curve.points, &Point::prefill_seconds, length, false),
                           Extrapolated(curve.points, &Point::token_seconds, length, true),
                           StateBytes(config, curve.points, length)});
      continue;
    }
    while (state.position < length) {
      const int64_t piece = PieceLength(config), count = std::min(32 * piece, length - state.position);
      const std::vector<int32_t> part = RandomTokens(count, config.vocab_size);
      const double start = NowSeconds();
      reader.Prefill(part, piece, state);
      seconds += NowSeconds() - start;
      progress.Update(state.position);
    }
    const double token = TokenSeconds(o, state, 0, reader);
    curve.points.push_back({length, false, seconds, token, state.bytes()});
  }
  progress.Finish();
  curve.points.insert(curve.points.end(), predicted.begin(), predicted.end());
  return curve;
}

std::string Csv(const std::vector<Curve>& curves) {
  std::string out =
      "model,parameters,tokens,predicted,prefill_seconds,prefill_tokens_per_second,token_seconds,state_bytes\n";
  for (const Curve& c : curves) {
    for (const Point& p : c.points) {
      out += fmt::format("{},{},{},{},{:.6g},{:.6g},{:.6g},{}\n", c.model, c.parameters, p.length, p.predicted ? 1 : 0,
                         p.prefill_seconds, static_cast<double>(p.length) / p.prefill_seconds, p.token_seconds,
                         p.state_bytes);
    }
  }
  return out;
}

std::string Chart(const std::vector<Curve>& curves, const std::string& title, const std::string& y_label,
                  const std::function<double(const Point&)>& value) {
  std::vector<PlotSeries> series;
  for (size_t i = 0; i < curves.size(); ++i) {
    PlotSeries measured{.name = curves[i].model, .x = {}, .y = {}, .color = static_cast<int>(i)};
    PlotSeries predicted{.name = "", .x = {}, .y = {}, .dashed = true, .color = static_cast<int>(i)};
    for (const Point& p : curves[i].points) {
      if (p.predicted && predicted.x.empty()) predicted.x = {measured.x.back()}, predicted.y = {measured.y.back()};
      PlotSeries& to = p.predicted ? predicted : measured;
      to.x.push_back(static_cast<double>(p.length));
      to.y.push_back(value(p));
    }
    series.push_back(std::move(measured));
    if (!predicted.x.empty()) series.push_back(std::move(predicted));
  }
  return SvgPlot(
      series, {.title = title, .x_label = "tokens of context (dashed: predicted)", .y_label = y_label, .log_x = true});
}

void WriteResults(const std::string& out, const std::vector<Curve>& curves) {
  const std::filesystem::path folder = out;
  std::filesystem::create_directories(folder);
  WriteFileAtomically(folder / "latency.csv", Csv(curves));
  WriteFileAtomically(folder / "prefill.svg",
                      Chart(curves, "Reading a prompt", "microseconds a token, mean",
                            [](const Point& p) { return 1e6 * p.prefill_seconds / static_cast<double>(p.length); }));
  WriteFileAtomically(folder / "generation.svg", Chart(curves, "Generating after a context", "milliseconds a token",
                                                       [](const Point& p) { return 1e3 * p.token_seconds; }));
  WriteFileAtomically(folder / "memory.svg", Chart(curves, "State of a sequence", "MiB", [](const Point& p) {
                        return static_cast<double>(p.state_bytes) / (1 << 20);
                      }));
}

OrderedJson ToJson(const LatencyOptions& o, const std::vector<Curve>& curves) {
  OrderedJson json = {
      {"command", "latency"}, {"dtype", NameIn(o.dtype)}, {"cpu", CpuModelName()}, {"models", OrderedJson::array()}};
  for (const Curve& c : curves) {
    OrderedJson points = OrderedJson::array();
    for (const Point& p : c.points) {
      points.push_back({{"tokens", p.length},
                        {"predicted", p.predicted},
                        {"prefill_seconds", p.prefill_seconds},
                        {"token_seconds", p.token_seconds},
                        {"state_bytes", p.state_bytes}});
    }
    json["models"].push_back({{"model", c.model}, {"parameters", c.parameters}, {"points", points}});
    if (!c.stopped.empty()) json["models"].back()["stopped"] = c.stopped;
  }
  return json;
}

void PrintTable(const std::vector<Curve>& curves) {
  std::vector<std::vector<std::string>> rows;
  for (const Curve& c : curves) {
    for (const Point& p : c.points) {
      const std::string about = p.predicted ? "~" : "";
      rows.push_back({c.model, LengthText(p.length), about + fmt::format("{:.2f} s", p.prefill_seconds),
                      about + fmt::format("{:.0f}", static_cast<double>(p.length) / p.prefill_seconds),
                      about + fmt::format("{:.3f} ms", 1e3 * p.token_seconds), FormatBytes(p.state_bytes)});
    }
    if (!c.stopped.empty()) Note(fmt::format("{}: {}; the rest is predicted", c.model, c.stopped));
  }
  Print(FormatTable({{"model", true}, {"context"}, {"prefill"}, {"tokens/s"}, {"a token after"}, {"state"}}, rows));
}

void RunLatency(const LatencyOptions& o) {
  const std::vector<int64_t> lengths = ParseLengths(o.lengths, "--lengths");
  std::vector<Curve> curves;
  for (const std::string& model : o.models) {
    curves.push_back(CurveOf(o, model, lengths));
    if (!o.out.empty()) WriteResults(o.out, curves);
  }
  if (o.json) {
    PrintJson(ToJson(o, curves));
  } else {
    PrintTable(curves);
  }
}

}  // namespace

void AddBenchLatency(CLI::App& bench) {
  CLI::App* command = bench.add_subcommand(
      "latency", "Time of a prompt and of a token after it, and memory, against the length, models side by side");
  auto o = std::make_shared<LatencyOptions>();
  TakeTextsAsTheyAre(*command->add_option("-m,--model", o->models, "Presets, config files or model directories")
                          ->type_name("PRESET|FILE|DIR...")
                          ->capture_default_str());
  command->add_option("--lengths", o->lengths, "Tokens of context, with K = 1024 and M = 1024 K")
      ->capture_default_str();
  AddStoredDTypeFlag(*command, o->dtype, ComputeType::kBF16);
  AddKvDTypeFlag(*command, o->kv_dtype);
  command->add_option("--tokens", o->tokens, "Tokens generated at each length")
      ->check(WholeNumber(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--runs", o->runs, "Generations at each length, of which the median is taken")
      ->check(WholeNumber(1, 1000))
      ->capture_default_str();
  command
      ->add_option("--time-limit", o->time_limit, "Seconds that a model's prompts may take; longer ones are predicted")
      ->check(WholeNumber(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--out", o->out, "Folder for latency.csv, prefill.svg, generation.svg and memory.svg")
      ->type_name("DIR");
  AddJsonFlag(*command, o->json);
  AddLoadFlags(*command);
  AddThreadsFlag(*command);
  command->callback([o] { RunLatency(*o); });
}

}  // namespace taipan
