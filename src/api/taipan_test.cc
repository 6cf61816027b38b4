// The public header alone, as a user's program has it.
#include "taipan/taipan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>

namespace {

std::string Folder() {
  const std::string path = (std::filesystem::temp_directory_path() / "taipan-api-XXXXXX").string();
  std::string copy = path;
  if (::mkdtemp(copy.data()) == nullptr) throw std::runtime_error("no temporary folder");
  return copy;
}

double Mean(const std::vector<double>& logprobs) {
  double sum = 0;
  for (size_t i = 1; i < logprobs.size(); ++i) sum += logprobs[i];
  return sum / static_cast<double>(logprobs.size() - 1);
}

TEST(PublicHeader, TrainsScoresSavesAndLoads) {
  taipan::Model model = taipan::Model::FromPreset("taipan-1m", 1);
  EXPECT_EQ(model.vocab_size(), 256);
  EXPECT_GT(model.parameter_count(), 500000);
  const taipan::Tokens text = model.Encode("one two three one two three one two three ");
  EXPECT_EQ(model.Decode(text), "one two three one two three one two three ");
  const std::vector<double> before = model.Score(text);
  ASSERT_EQ(before.size(), text.size());
  EXPECT_TRUE(std::isnan(before[0]));

  taipan::Trainer trainer(model);
  taipan::TrainResult result;
  for (int i = 0; i < 8; ++i) result = trainer.Step({text, text}, {.learning_rate = 3e-3});
  EXPECT_EQ(result.step, 8);
  EXPECT_GT(result.gradient_norm, 0);
  EXPECT_FALSE(result.selected_share.empty());
  const std::vector<double> after = model.Score(text);
  EXPECT_GT(Mean(after), Mean(before) + 0.5);

  const std::string folder = Folder();
  model.Save(folder + "/model");
  const taipan::Model loaded = taipan::Model::Load(folder + "/model");
  const std::vector<double> again = loaded.Score(text);
  for (size_t i = 1; i < text.size(); ++i) EXPECT_EQ(again[i], after[i]);
  EXPECT_EQ(loaded.Encode("x"), taipan::Tokens{'x'});
  std::filesystem::remove_all(folder);
}

TEST(PublicHeader, RunsInBF16WithoutMasters) {
  const std::string folder = Folder();
  const taipan::Model model = taipan::Model::FromPreset("taipan-1m", 1);
  model.Save(folder + "/model");
  const taipan::Model narrow = taipan::Model::Load(folder + "/model", {.dtype = taipan::NumberFormat::kBF16});
  const taipan::Tokens text = model.Encode("one two three one two three");
  const std::vector<double> exact = model.Score(text), rounded = narrow.Score(text);
  EXPECT_NE(rounded, exact);
  for (size_t i = 1; i < text.size(); ++i) EXPECT_NEAR(rounded[i], exact[i], 0.1);
  EXPECT_EQ(narrow.Generate(text, {.max_tokens = 4, .temperature = 0}).size(), 4u);
  const auto error_of = [](const auto& f) -> std::string {
    try {
      f();
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  };
  // No weight is quantized: others are in bf16 or f32 then.
  const taipan::Model stored = taipan::Model::Load(folder + "/model", {.dtype = taipan::NumberFormat::kStored});
  const std::vector<double> as_stored = stored.Score(text);
  for (size_t i = 1; i < text.size(); ++i) EXPECT_NEAR(as_stored[i], exact[i], 0.1);
  const std::string why = "needs the weights in f32, expected f32, found bf16 alone, as the model was loaded";
  EXPECT_NE(error_of([&] { taipan::Trainer trainer(narrow); }).find("training " + why), std::string::npos);
  EXPECT_NE(error_of([&] { narrow.Save(folder + "/copy"); }).find("saving a model " + why), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder + "/copy"));
  std::filesystem::remove_all(folder);
}

TEST(PublicHeader, SessionsForkSaveAndLoad) {
  const taipan::Model model = taipan::Model::FromPreset("taipan-1m", 2);
  const taipan::Tokens prompt = model.Encode("The taipan waits");
  taipan::Session session(model);
  session.Append(prompt);
  taipan::Session fork = session;
  taipan::Session assigned(model);
  assigned = session;
  const std::string folder = Folder(), file = folder + "/state.safetensors";
  session.Save(file);
  taipan::Session restored = taipan::Session::Load(model, file);
  EXPECT_EQ(restored.position(), session.position());
  const taipan::GenerateOptions options = {.max_tokens = 12, .seed = 5};
  const taipan::Tokens expected = session.Generate(options);
  EXPECT_EQ(expected.size(), 12u);
  EXPECT_EQ(fork.position() + 12, session.position());
  EXPECT_EQ(fork.Generate(options), expected);
  EXPECT_EQ(assigned.Generate(options), expected);
  EXPECT_EQ(restored.Generate(options), expected);
  EXPECT_EQ(model.Generate(prompt, options), expected);
  EXPECT_EQ(fork.Append({65}), session.Append({65}));
  int seen = 0;
  model.Generate(prompt, options, [&](int32_t) { return ++seen < 3; });
  EXPECT_EQ(seen, 3);
  const auto letter = std::find_if(expected.begin(), expected.end(), [](int32_t id) { return id < 128; });
  ASSERT_NE(letter, expected.end());
  taipan::GenerateOptions until = options;
  until.stop_texts = {"never in it", std::string(1, static_cast<char>(*letter))};
  EXPECT_EQ(model.Generate(prompt, until), taipan::Tokens(expected.begin(), letter + 1));
  until.stop_texts = {""};
  EXPECT_THROW(model.Generate(prompt, until), std::runtime_error);
  EXPECT_THROW(taipan::Session::Load(taipan::Model::FromPreset("taipan-1m", 3), file), std::runtime_error);
  std::filesystem::remove_all(folder);
}

TEST(PublicHeader, PromptsThatBeginAlikeAreReadOnce) {
  const taipan::Model model = taipan::Model::FromPreset("taipan-1m", 2);
  taipan::Tokens prompt;
  for (int i = 0; i < 300; ++i) prompt.push_back(i * 37 % 256);
  const std::string folder = Folder();
  taipan::PromptCache cache(model, int64_t{1} << 28, folder);
  const taipan::Tokens expected = model.Generate(prompt, {.max_tokens = 8});
  EXPECT_EQ(cache.Read(prompt).Generate({.max_tokens = 8}), expected);
  EXPECT_EQ(cache.reused(), 0);
  EXPECT_EQ(cache.reason(), "the cache is empty");
  EXPECT_EQ(cache.Read(prompt).Generate({.max_tokens = 8}), expected);
  EXPECT_EQ(cache.reused(), 300);
  cache.Flush();
  taipan::PromptCache later(model, int64_t{1} << 28, folder);
  prompt.push_back(1);
  taipan::Session fresh(model);
  fresh.Append(prompt);
  EXPECT_EQ(later.Read(prompt).Append({7}), fresh.Append({7}));
  EXPECT_GT(later.reused(), 200);
  EXPECT_THROW(later.Read({}), std::runtime_error);
  EXPECT_THROW(later.Read({-1}), std::runtime_error);
  std::filesystem::remove_all(folder);
}

TEST(PublicHeader, ABatchGeneratesWhatEachOneDoesAlone) {
  const taipan::Model model = taipan::Model::FromPreset("taipan-1m", 2);
  taipan::GenerationBatch batch(model, 2);
  std::vector<taipan::Tokens> ends(4);
  const std::vector<std::string> prompts = {"The taipan waits", "A", "In the beginning there was a long prompt"};
  for (size_t i = 0; i < prompts.size(); ++i) {
    batch.Add(model.Encode(prompts[i]), {.max_tokens = 9, .seed = i}, {},
              [&ends, i](const taipan::Tokens& tokens) { ends[i] = tokens; });
  }
  taipan::Session session(model);
  session.Append(model.Encode("Once"));
  batch.Add(session, {.max_tokens = 5}, {}, [&](const taipan::Tokens& tokens) { ends[3] = tokens; });
  bool ended = false;
  const int64_t cancelled = batch.Add({1}, {}, {}, [&](const taipan::Tokens&) { ended = true; });
  batch.Cancel(cancelled);
  while (batch.Step()) {
  }
  EXPECT_TRUE(ended);
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(ends[i], model.Generate(model.Encode(prompts[i]), {.max_tokens = 9, .seed = i})) << i;
  }
  EXPECT_EQ(ends[3], session.Generate({.max_tokens = 5}));
  EXPECT_THROW(batch.Add(taipan::Tokens{}), std::runtime_error);
  EXPECT_THROW(batch.Add({1}, {.stop_texts = {""}}), std::runtime_error);
}

TEST(PublicHeader, ABatchOfSessionsGoesOn) {
  const taipan::Model model = taipan::Model::FromPreset("taipan-1m", 2);
  std::vector<taipan::Session> sessions(3, taipan::Session(model)), alone = sessions;
  std::vector<taipan::Tokens> ends(3);
  taipan::GenerationBatch batch(model);
  for (size_t i = 0; i < 3; ++i) {
    for (auto* all : {&sessions, &alone}) (*all)[i].Append(taipan::Tokens(4 + 9 * i, static_cast<int32_t>(65 + i)));
    batch.Continue(sessions[i], {.max_tokens = 4 + static_cast<int64_t>(i), .seed = i}, {},
                   [&ends, i](const taipan::Tokens& tokens) { ends[i] = tokens; });
  }
  while (batch.Step()) {
  }
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(alone[i].Generate({.max_tokens = 4 + static_cast<int64_t>(i), .seed = i}), ends[i]);
    EXPECT_EQ(sessions[i].position(), alone[i].position());
    EXPECT_EQ(sessions[i].Append({66, 67}), alone[i].Append({66, 67}));
  }
  // One that is cancelled has read what its callback was told.
  taipan::Tokens told;
  const int64_t id = batch.Continue(sessions[0], {}, [&](int32_t token) { return told.push_back(token), true; });
  for (int step = 0; step < 3; ++step) batch.Step();
  batch.Cancel(id);
  while (batch.Step()) {
  }
  ASSERT_GT(told.size(), 0u);
  EXPECT_EQ(sessions[0].position(), alone[0].position() + static_cast<int64_t>(told.size()));
  alone[0].Append(taipan::Tokens(told));
  EXPECT_EQ(sessions[0].position(), alone[0].position());
  const taipan::Model other = taipan::Model::FromPreset("taipan-1m", 3);
  taipan::Session stranger(other);
  EXPECT_THROW(batch.Continue(stranger), std::runtime_error);
}

TEST(PublicHeader, TheBestOfSeveralIsChosen) {
  const taipan::Model model = taipan::Model::FromPreset("taipan-1m", 2);
  taipan::Session session(model);
  session.Append(model.Encode("The taipan waits"));
  const std::vector<taipan::Completion> best = session.GenerateBestOf(2, 6, {.max_tokens = 8, .seed = 10});
  ASSERT_EQ(best.size(), 2u);
  EXPECT_EQ(session.position(), 16);
  EXPECT_GE(best[0].mean_logprob, best[1].mean_logprob);
  for (const taipan::Completion& completion : best) {
    EXPECT_GE(completion.seed, 10u);
    EXPECT_LT(completion.seed, 16u);
    taipan::Session fork = session;
    EXPECT_EQ(fork.Generate({.max_tokens = 8, .seed = completion.seed}), completion.tokens);
    taipan::Tokens whole = model.Encode("The taipan waits");
    whole.insert(whole.end(), completion.tokens.begin(), completion.tokens.end());
    const std::vector<double> logprobs = model.Score(whole);
    double sum = 0;
    for (size_t i = 16; i < whole.size(); ++i) sum += logprobs[i];
    EXPECT_NEAR(completion.mean_logprob, sum / 8, 1e-4);
  }
  EXPECT_EQ(session.GenerateBestOf(1, 1, {.max_tokens = 3, .temperature = 0}).size(), 1u);
  EXPECT_THROW(session.GenerateBestOf(1, 2, {.temperature = 0}), std::runtime_error);
  EXPECT_THROW(session.GenerateBestOf(3, 2), std::runtime_error);
  EXPECT_THROW(taipan::Session(model).GenerateBestOf(1, 2), std::runtime_error);
}

TEST(PublicHeader, DraftsChangeNoToken) {
  const taipan::Model model = taipan::Model::FromPreset("taipan-1m", 2);
  const taipan::Tokens prompt = model.Encode("one two three one two three one two ");
  for (const double temperature : {0.0, 0.3}) {
    taipan::GenerateOptions plain = {.max_tokens = 80, .temperature = temperature, .seed = 1};
    plain.logit_bias = {{65, 12.0}, {66, 11.0}};  // they repeat
    taipan::GenerateOptions drafts = plain;
    drafts.draft_match = 2;
    taipan::Session with(model), without(model);
    with.Append(prompt);
    without.Append(prompt);
    int64_t position = with.position();
    EXPECT_EQ(with.Generate(drafts, [&](int32_t) { return with.position() == position++; }), without.Generate(plain));
    EXPECT_EQ(with.position(), without.position());
    EXPECT_EQ(with.Append({1, 2, 3}), without.Append({1, 2, 3}));
  }
  EXPECT_THROW(model.Generate(prompt, {.draft_match = -1}), std::runtime_error);
  EXPECT_THROW(model.Generate(prompt, {.draft_match = 65}), std::runtime_error);
}

TEST(PublicHeader, LoadingTakesTheNumberOfThreads) {
  const std::string folder = Folder();
  taipan::Model::FromPreset("mamba2-1m", 2).Save(folder + "/model");
  taipan::Model::Load(folder + "/model", {.threads = 1});
  EXPECT_THROW(taipan::Model::Load(folder + "/model", {.threads = -1}), std::runtime_error);
  EXPECT_THROW(taipan::Model::Load(folder + "/model", {.threads = 5000}), std::runtime_error);
  std::filesystem::remove_all(folder);
}

TEST(PublicHeader, SamplingOptionsReachTheSampler) {
  const taipan::Model model = taipan::Model::FromPreset("mamba2-1m", 2);
  const taipan::Tokens prompt = model.Encode("The taipan waits");
  taipan::GenerateOptions options = {.max_tokens = 6, .temperature = 0};
  options.logit_bias = {{65, 100.0}};
  EXPECT_EQ(model.Generate(prompt, options), taipan::Tokens(6, 65));
  options.logit_bias = {{65, 100.0}, {66, 99.0}};
  options.presence_penalty = 2;
  EXPECT_EQ(model.Generate(prompt, options), (taipan::Tokens{65, 66, 65, 65, 65, 65}));  // 100, then 98 against 99
  options = {.max_tokens = 3};
  options.mask = [](const taipan::Tokens& generated, std::vector<bool>& allowed) {
    allowed.assign(allowed.size(), false);
    allowed[70 + generated.size()] = true;
  };
  EXPECT_EQ(model.Generate(prompt, options), (taipan::Tokens{70, 71, 72}));
  options.mask = {};
  options.typical_p = 0;
  EXPECT_THROW(model.Generate(prompt, options), std::runtime_error);
  options.typical_p = 1;
  options.repetition_penalty = -1;
  EXPECT_THROW(model.Generate(prompt, options), std::runtime_error);
}

TEST(PublicHeader, SettingsThatAreNoNumbersLeaveTheWeightsAlone) {
  const taipan::Model model = taipan::Model::FromPreset("taipan-1m", 4);
  const taipan::Tokens text = model.Encode("some text to learn");
  const std::vector<double> before = model.Score(text);
  taipan::Trainer trainer(model);
  const double nan = std::nan(""), infinite = HUGE_VAL;
  for (double taipan::TrainOptions::*setting :
       {&taipan::TrainOptions::learning_rate, &taipan::TrainOptions::beta1, &taipan::TrainOptions::beta2,
        &taipan::TrainOptions::eps, &taipan::TrainOptions::weight_decay, &taipan::TrainOptions::clip_norm,
        &taipan::TrainOptions::budget_loss_weight}) {
    for (const double value : {nan, infinite, -infinite, -0.5, 1e300}) {
      taipan::TrainOptions options;
      options.*setting = value;
      EXPECT_THROW(trainer.Step({text}, options), std::runtime_error) << value;
    }
  }
  EXPECT_THROW(trainer.Step({text}, {.eps = 0}), std::runtime_error);
  for (double taipan::GenerateOptions::*setting :
       {&taipan::GenerateOptions::temperature, &taipan::GenerateOptions::top_p, &taipan::GenerateOptions::min_p}) {
    for (const double value : {nan, infinite, -infinite}) {
      taipan::GenerateOptions options;
      options.*setting = value;
      EXPECT_THROW(model.Generate(text, options), std::runtime_error) << value;
    }
  }
  const std::vector<double> after = model.Score(text);
  for (size_t i = 1; i < text.size(); ++i) EXPECT_EQ(after[i], before[i]);
  EXPECT_EQ(trainer.Step({text}).step, 1);
}

TEST(PublicHeader, FailuresAreRuntimeErrors) {
  EXPECT_THROW(taipan::Model::Load("/does/not/exist"), std::runtime_error);
  EXPECT_THROW(taipan::Model::FromPreset("no-such-preset"), std::runtime_error);
  const taipan::Model model = taipan::Model::FromPreset("mamba2-1m");
  EXPECT_THROW(model.Score({}), std::runtime_error);
  EXPECT_THROW(model.Score({1, 256}), std::runtime_error);
  EXPECT_THROW(model.Generate({}), std::runtime_error);
  EXPECT_THROW(model.Generate({1}, {.temperature = -1}), std::runtime_error);
  taipan::Trainer trainer(model);
  EXPECT_THROW(trainer.Step({}), std::runtime_error);
  EXPECT_THROW(trainer.Step({{1}}), std::runtime_error);
  EXPECT_THROW(trainer.Step({{1, -2}}), std::runtime_error);
  EXPECT_THROW(taipan::SetThreadCount(0), std::runtime_error);
}

}  // namespace
