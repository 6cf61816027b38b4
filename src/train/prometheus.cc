#include "train/prometheus.h"

#include <fmt/format.h>

#include <cmath>

#include "base/fields.h"

namespace taipan {
namespace {

std::string LabelValue(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

std::string Number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return ShortestDouble(value);
}

struct Writer {
  std::string run, text = {};

  void Begin(const char* name, const char* type, const char* help) {
    text += fmt::format("# HELP taipan_{0} {2}\n# TYPE taipan_{0} {1}\n", name, type, help);
  }
  void Value(const char* name, double value, const std::string& more = "") {
    text += fmt::format("taipan_{}{{run=\"{}\"{}}} {}\n", name, run, more, Number(value));
  }
  void Gauge(const char* name, double value, const char* help) {
    Begin(name, "gauge", help);
    Value(name, value);
  }
  void Counter(const char* name, double value, const char* help) {
    Begin(name, "counter", help);
    Value(name, value);
  }
};

}  // namespace

std::string PrometheusText(const std::string& run, const StepMetrics& m, int64_t steps, int64_t skipped,
                           const std::optional<ValidMetrics>& valid) {
  Writer w{LabelValue(run)};
  w.Gauge("step", static_cast<double>(m.step), "Optimizer steps done.");
  w.Gauge("steps", static_cast<double>(steps), "Steps of the whole run.");
  w.Counter("tokens_total", static_cast<double>(m.tokens), "Tokens read.");
  w.Counter("training_seconds_total", m.seconds, "Seconds spent in steps.");
  w.Counter("skipped_steps_total", static_cast<double>(skipped), "Steps left out as spikes.");
  w.Gauge("loss_nats", m.ce, "Cross entropy of the last step, nats a token.");
  w.Gauge("gradient_norm", m.grad_norm, "Norm of all gradients before clipping.");
  w.Gauge("learning_rate", m.lr, "Learning rate of the last step.");
  w.Gauge("tokens_per_second", m.tokens_per_second, "Of the last step.");
  if (!m.selected_share.empty()) {
    w.Begin("selected_share", "gauge", "Share of tokens that a selective layer selected.");
    for (size_t i = 0; i < m.selected_share.size(); ++i) {
      w.Value("selected_share", m.selected_share[i], fmt::format(",layer=\"{}\"", i));
    }
  }
  if (valid) {
    w.Gauge("validation_step", static_cast<double>(valid->step), "Step of the last validation.");
    w.Gauge("validation_loss_nats", valid->ce, "Cross entropy of the last validation, nats a token.");
    w.Gauge("validation_bits_per_byte", valid->bits_per_byte, "The same in bits per byte.");
  }
  return w.text;
}

}  // namespace taipan
