#include "train/run_reports.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "train/prometheus.h"
#include "train/run_page.h"
#include "train/test_run.h"

namespace taipan {
namespace {

StepMetrics StepAt(int64_t step) {
  StepMetrics m;
  m.step = step;
  m.ce = 3.0 / static_cast<double>(step);
  m.selected_share = {0.25};
  m.grad_norm = 0.5;
  m.lr = 1e-3;
  m.tokens = 64 * step;
  m.tokens_per_second = 1000;
  return m;
}

TEST(PrometheusText, IsInTheTextFormat) {
  ValidMetrics valid;
  valid.step = 10;
  valid.ce = 2.5;
  valid.bits_per_byte = std::numeric_limits<double>::quiet_NaN();
  const std::string text = PrometheusText("a \"run\"\\\n", StepAt(12), 100, 3, valid);
  for (const char* line : {"# TYPE taipan_step gauge\ntaipan_step{run=\"a \\\"run\\\"\\\\\\n\"} 12.0\n",
                           "# TYPE taipan_tokens_total counter\n", "} 768.0\n", "taipan_skipped_steps_total{",
                           "} 3.0\n", ",layer=\"0\"} 0.25\n", "taipan_validation_loss_nats{", "} NaN\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\nin\n" << text;
  }
  EXPECT_EQ(text.back(), '\n');
  EXPECT_EQ(PrometheusText("r", StepAt(1), 1, 0, std::nullopt).find("validation"), std::string::npos);
}

TEST(RunPage, ShowsCurvesAndTextsWithoutANetwork) {
  MetricsHistory history;
  for (int64_t step = 1; step <= 50; ++step) history.Add(StepAt(step));
  RunPage page{.name = "books <1>",
               .facts = {{"model", "taipan & co"}},
               .history = &history,
               .bytes_per_token = 1,
               .samples = {{10, "old"}, {20, "It was\n<script>alert(1)</script>"}}};
  const std::string html = ToHtml(page);
  for (const char* part : {"<title>books &lt;1&gt;</title>", "taipan &amp; co", "bits/byte", "Selected share of tokens",
                           "Learning rate", "Gradient norm", "tokens/s", "after step 20",
                           "It was\n&lt;script&gt;alert(1)&lt;/script&gt;", "default-src 'none'"}) {
    EXPECT_NE(html.find(part), std::string::npos) << part;
  }
  EXPECT_LT(html.find("after step 20"), html.find("after step 10"));
  for (const char* part : {"<script", "http://", "https://", "src="}) {
    size_t at = html.find(part);
    while (at != html.npos && html.compare(at - 7, 34, "xmlns=\"http://www.w3.org/2000/svg\"") == 0) {
      at = html.find(part, at + 1);
    }
    EXPECT_EQ(at, html.npos) << part;
  }
  EXPECT_NE(ToHtml({.name = "new", .facts = {}, .history = &history, .samples = {}}).find("</html>"), html.npos);
}

class ReportsTest : public RunFixture {
 protected:
  RunRequest Telling(const std::string& run) const {
    RunRequest request = Request(run);
    request.settings.tensorboard = request.settings.prometheus = true;
    request.settings.layer_stats_every = 3;
    request.settings.sample_every = 2;
    return request;
  }
  static RunHooks Writes() {
    RunHooks hooks;
    hooks.sample = [](const LanguageModel&, const Tokenizer*, int64_t step) {
      if (step == 6 && raise_at_6) raise(SIGINT);
      return fmt::format("text of step {}", step);
    };
    return hooks;
  }
  static inline bool raise_at_6 = false;
};

TEST_F(ReportsTest, ReportsOfAResumedRunHaveEveryStepOnce) {
  raise_at_6 = true;
  ASSERT_EQ(RunTraining(Telling("run"), Writes()), RunEnd::kInterrupted);
  raise_at_6 = false;
  RemoveTree(folder_ / "run/checkpoints/step-6");  // as if it had been killed then
  RunRequest rest = Telling("run");
  rest.resume = true;
  ASSERT_EQ(RunTraining(rest, Writes()), RunEnd::kFinished);

  const std::string samples = ReadFile(folder_ / "run/samples.jsonl");
  for (int64_t step : {2, 4, 6, 8, 10}) {
    const std::string line = fmt::format("{{\"step\":{0},\"text\":\"text of step {0}\"}}\n", step);
    EXPECT_EQ(samples.find(line), samples.rfind(line)) << line;
    EXPECT_NE(samples.find(line), samples.npos) << line;
  }
  const std::string page = ReadFile(folder_ / "run/report.html");
  for (const char* part : {"text of step 2", "text of step 10", "step 10 of 10", "nats a token after step 10"}) {
    EXPECT_NE(page.find(part), page.npos) << part;
  }
  EXPECT_NE(ReadFile(folder_ / "run/metrics.prom").find("taipan_step{run=\"run\"} 10.0\n"), std::string::npos);
  size_t losses = 0;
  std::string events;
  for (const std::string& name : ListDirectory(folder_ / "run/tensorboard")) {
    events += ReadFile(folder_ / "run/tensorboard/" + name);
  }
  for (size_t at = 0; (at = events.find("train/loss", at)) != events.npos; ++at) ++losses;
  EXPECT_EQ(losses, 10u);
  EXPECT_NE(events.find("layer_00/state_norm"), events.npos);
}

TEST_F(ReportsTest, LinesAboutLayersSayWhatTheyAreLike) {
  ASSERT_EQ(RunTraining(Telling("run"), Writes()), RunEnd::kFinished);
  std::vector<int64_t> steps;
  for (const std::string& text : Metrics("run")) {
    const auto line = nlohmann::json::parse(text);
    if (!line.contains("layers")) continue;
    steps.push_back(line["step"].get<int64_t>());
    ASSERT_EQ(line["layers"].size(), 3u);
    const auto &mamba = line["layers"][0], &sal = line["layers"][2];
    EXPECT_EQ(mamba["kind"], "mamba2");
    EXPECT_GT(mamba["state_norm"].get<double>(), 0);
    EXPECT_GT(mamba["dt_min"].get<double>(), 0);
    EXPECT_LT(mamba["dt_min"].get<double>(), mamba["dt_mean"].get<double>());
    EXPECT_LT(mamba["dt_mean"].get<double>(), mamba["dt_max"].get<double>());
    EXPECT_FALSE(mamba.contains("selected_share"));
    EXPECT_FALSE(sal.contains("state_norm"));
    EXPECT_GT(sal["rms"].get<double>(), 0);
    EXPECT_GT(sal["selected_share"].get<double>(), 0);
    EXPECT_GT(sal["mean_alpha"].get<double>(), 0);
    EXPECT_LE(sal["mean_alpha"].get<double>(), 1);
  }
  EXPECT_EQ(steps, (std::vector<int64_t>{3, 6, 9}));
  // Looking changes nothing.
  RunRequest silent = Request("silent");
  ASSERT_EQ(RunTraining(silent, {}), RunEnd::kFinished);
  EXPECT_EQ(ReadFile(folder_ / "run/model/model.safetensors"), ReadFile(folder_ / "silent/model/model.safetensors"));
}

// The step's own forward knows nothing of the norms; they are those of the state that the row leaves.
TEST(MeasureLayers, StateNormIsThatOfTheFinalState) {
  LanguageModel model = TestModel();
  Batch batch;
  batch.tokens = TestTokens(40);
  batch.segments = {{.begin = 0, .length = 40}};
  ForwardContext context;
  const std::vector<LayerStatistics> layers = MeasureLayers(model, batch, GateOptions(), context);
  SequenceState state;
  batch.segments[0].state_out = &state;
  model.Forward(batch, GateOptions(), /*keep=*/false, context);
  for (const size_t layer : {0, 1}) {
    const Tensor& ssm = state.layers[layer].ssm;
    double squares = 0;
    for (int64_t i = 0; i < ssm.size(); ++i) squares += ssm.F32()[i] * ssm.F32()[i];
    EXPECT_NEAR(layers[layer].state_norm.value(), std::sqrt(squares), 1e-5 * std::sqrt(squares));
  }
}

}  // namespace
}  // namespace taipan
