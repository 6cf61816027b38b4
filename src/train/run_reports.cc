#include "train/run_reports.h"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/error.h"
#include "base/files.h"
#include "base/progress.h"
#include "train/curve.h"
#include "train/prometheus.h"
#include "train/rate_range.h"
#include "train/run_page.h"

namespace taipan {
namespace {

constexpr double kDrawSeconds = 60, kPromSeconds = 5;

std::string NameOf(const std::string& folder) {
  std::filesystem::path path = std::filesystem::absolute(folder).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return path.filename().string();
}

// Of samples.jsonl, up to the step; lines that are none are left out.
std::vector<std::pair<int64_t, std::string>> CutSamples(const std::string& path, int64_t last_step) {
  std::vector<std::pair<int64_t, std::string>> samples;
  if (!PathExists(path)) return samples;
  const std::string all = ReadFile(path);
  std::string kept;
  for (size_t begin = 0, end; (end = all.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string text = all.substr(begin, end - begin);
    const auto line = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!line.is_object() || !line.contains("step") || !line["step"].is_number_integer() || !line.contains("text") ||
        !line["text"].is_string() || line["step"] > last_step)
      continue;
    samples.emplace_back(line["step"].get<int64_t>(), line["text"].get<std::string>());
    kept += text + "\n";
  }
  if (kept.size() != all.size()) WriteFileAtomically(path, kept);
  return samples;
}

}  // namespace

RunReports::RunReports(Options options, MetricsHistory history, int64_t step)
    : options_(std::move(options)),
      name_(NameOf(options_.folder)),
      history_(std::move(history)),
      metrics_(options_.folder + "/metrics.jsonl"),
      samples_(CutSamples(options_.folder + "/samples.jsonl", step)),
      drawn_(NowSeconds()) {
  const std::string events = options_.folder + "/tensorboard";
  CutEvents(events, step);
  if (options_.settings.tensorboard) events_ = std::make_unique<EventFile>(events);
}

void RunReports::Append(const std::string& line) {
  const std::string why = metrics_.Write(line);
  if (!why.empty() && !metrics_wait_) options_.say(fmt::format("warning: {}; lines wait in memory", why));
  metrics_wait_ = !why.empty();
}

void RunReports::Try(const std::function<void()>& write) {
  try {
    write();
    warned_ = false;
  } catch (const UserError& error) {
    if (!warned_) options_.say(fmt::format("warning: {}", error.what()));
    warned_ = true;
  }
}

void RunReports::AddEvents(int64_t step, const Scalars& scalars) {
  if (!events_) return;
  Try([&] {
    const std::string why = events_->Add(step, scalars);
    if (!why.empty()) throw UserError("TensorBoard", why);
  });
}

void RunReports::Add(const StepMetrics& m, int64_t skipped_steps) {
  Append(ToJsonLine(m));
  history_.Add(m);
  last_ = m;
  skipped_ = skipped_steps;
  Scalars scalars = {{"train/loss", m.ce},
                     {"train/gradient_norm", m.grad_norm},
                     {"train/learning_rate", m.lr},
                     {"train/tokens_per_second", m.tokens_per_second}};
  for (size_t i = 0; i < m.selected_share.size(); ++i) {
    scalars.emplace_back(fmt::format("selected_share/sal_{}", i + 1), m.selected_share[i]);
  }
  AddEvents(m.step, scalars);
  if (NowSeconds() - prom_ >= kPromSeconds) WriteProm();
  if (NowSeconds() - drawn_ >= kDrawSeconds) Draw();
}

void RunReports::Add(const ValidMetrics& m) {
  Append(ToJsonLine(m));
  history_.Add(m);
  last_valid_ = m;
  Scalars scalars = {{"valid/loss", m.ce}};
  if (std::isfinite(m.bits_per_byte)) scalars.emplace_back("valid/bits_per_byte", m.bits_per_byte);
  AddEvents(m.step, scalars);
  Draw();
}

void RunReports::Add(int64_t step, const std::vector<LayerStatistics>& layers) {
  Append(ToJsonLine(step, layers));
  Scalars scalars;
  for (size_t i = 0; i < layers.size(); ++i) {
    const LayerStatistics& l = layers[i];
    const auto add = [&](const char* what, std::optional<double> value) {
      if (value) scalars.emplace_back(fmt::format("layer_{:02}/{}", i, what), *value);
    };
    add("rms", l.rms);
    add("state_norm", l.state_norm);
    add("dt_mean", l.dt_mean);
    add("dt_max", l.dt_max);
    add("mean_alpha", l.mean_alpha);
  }
  AddEvents(step, scalars);
}

void RunReports::AddSample(int64_t step, const std::string& text) {
  if (text.empty()) return;
  samples_.emplace_back(step, text);
  const nlohmann::ordered_json line = {{"step", step}, {"text", text}};
  Try([&] {
    MetricsWriter file(options_.folder + "/samples.jsonl");
    const std::string why = file.Write(line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    if (!why.empty()) throw UserError("samples", why);
  });
}

void RunReports::WriteProm() {
  prom_ = NowSeconds();
  if (!options_.settings.prometheus || last_.step == 0) return;
  Try([&] {
    WriteFileAtomically(options_.folder + "/metrics.prom",
                        PrometheusText(name_, last_, options_.settings.steps, skipped_, last_valid_));
  });
}

void RunReports::Draw() {
  drawn_ = NowSeconds();
  WriteProm();
  Try([&] { DrawFiles(); });
}

void RunReports::DrawFiles() const {
  const TrainSettings& s = options_.settings;
  WriteCurve(history_, options_.bytes_per_token, s, options_.folder + "/curve.svg");
  if (!s.lr_range.empty()) DrawRange(RangeOf(history_, s), options_.folder + "/lr-range.svg");
  RunPage page{.name = name_,
               .facts = options_.facts,
               .history = &history_,
               .bytes_per_token = options_.bytes_per_token,
               .samples = samples_};
  if (last_.step > 0) {
    page.facts.emplace_back("done", fmt::format("step {} of {}, {} tokens, {} of training", last_.step, s.steps,
                                                FormatCount(last_.tokens), FormatDuration(last_.seconds)));
    if (skipped_ > 0) page.facts.emplace_back("skipped", fmt::format("{} steps, as spikes", skipped_));
  }
  if (last_valid_) {
    std::string text = fmt::format("{:.4f} nats a token after step {}", last_valid_->ce, last_valid_->step);
    if (std::isfinite(last_valid_->bits_per_byte))
      text += fmt::format(", {:.4f} bits/byte", last_valid_->bits_per_byte);
    page.facts.emplace_back("validation", text);
  }
  WriteFileAtomically(options_.folder + "/report.html", ToHtml(page));
}

}  // namespace taipan
