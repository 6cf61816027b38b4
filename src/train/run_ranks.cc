#include "train/run_ranks.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "model/hf_config.h"
#include "model/memory_plan.h"
#include "train/schedule.h"
#include "train/trainer.h"

namespace taipan {
namespace {

// The files' names, sizes and contents.
Json StampsOf(const RunData& data) {
  Json all = Json::array();
  for (const FileStamp& s : data.stamps) {
    all.push_back({{"name", s.name}, {"content", fmt::format("{} bytes, hash {:016x}", s.bytes, s.hash)}});
  }
  return all;
}

std::string Flag(std::string key) {
  std::replace(key.begin(), key.end(), '_', '-');
  return "--" + key;
}

// Throws for the first flag that this rank was not given as the first rank was.
void CheckAsked(const Json& first, const Json& own) {
  Json all = first;
  all.update(own);
  for (const auto& [key, value] : all.items()) {
    const auto in = [&key = key](const Json& asked) { return asked.contains(key) ? asked[key].dump() : "nothing"; };
    if (in(first) == in(own)) continue;
    throw UserError({Flag(key), "not what rank 0 was given", in(first), in(own)});
  }
}

void CheckStampsOf(const Json& first, const Json& own) {
  for (size_t i = 0; i < std::max(first.size(), own.size()); ++i) {
    const auto at = [&](const Json& stamps) {
      return i < stamps.size() ? stamps[i] : Json{{"name", "no file"}, {"content", "nothing"}};
    };
    if (at(first) == at(own)) continue;
    const std::string name = at(own)["name"];
    throw UserError({name, "this rank sees other data than rank 0",
                     fmt::format("{} of {}", std::string(at(first)["content"]), std::string(at(first)["name"])),
                     at(own)["content"]});
  }
}

void CheckSequenceRanks(const TrainSettings& s, const ModelConfig& config, int ranks) {
  const char* const flag = "--sequence-ranks";
  if (ranks % s.sequence_ranks != 0) {
    throw UserError({flag, "the ranks cannot be shared out evenly over sequences",
                     fmt::format("a divisor of their number, {}", ranks), fmt::format("{}", s.sequence_ranks),
                     ranks == 1 ? "start with mpirun, or with --sequence-ranks 1" : ""});
  }
  if (KeepsAllKeys(config)) {
    throw UserError({flag, "full attention would need the keys of all ranks before a rank's own",
                     "a model of Mamba-2, selective or sliding-window attention", fmt::format("{}", s.sequence_ranks),
                     "share out rows instead, with --sequence-ranks 1"});
  }
  if (s.state != StateStart::kNone) {
    throw UserError({flag, "not together with --state", "one of them", "both"});
  }
}

// What a rank that follows needs while it trains.
struct Follower {
  RunData data;
  std::optional<ModelTrainer> trainer;
};

void Begin(Ranks& ranks, const Json& invitation, Follower& follower) {
  CheckAsked(invitation["asked"], ParseJson(ranks.asked(), "flags"));
  TrainSettings settings;
  ReadFields(invitation["settings"], "rank 0", settings);
  const ModelConfig config = ParseModelConfig(invitation["config"], "rank 0");
  follower.data = OpenData(settings, invitation["tokenizer_folder"], config, /*follow=*/false);
  CheckStampsOf(invitation["stamps"], StampsOf(follower.data));
  LanguageModel model(config);
  model.params().BindZeros();
  follower.trainer.emplace(std::move(model), settings, MakeSource(settings, follower.data), ranks);
}

}  // namespace

void CheckRanks(const TrainSettings& s, const ModelConfig& config, int ranks) {
  if (s.sequence_ranks > 1) CheckSequenceRanks(s, config, ranks);
  const int64_t groups = ranks / s.sequence_ranks;  // that have rows of their own
  const auto check = [&](const char* flag, int64_t rows) {
    if (rows % groups == 0) return;
    throw UserError({flag, "its sequences cannot be shared out evenly",
                     s.sequence_ranks > 1
                         ? fmt::format("a multiple of {}: {} ranks, {} for a sequence", groups, ranks, s.sequence_ranks)
                         : fmt::format("a multiple of the {} ranks", ranks),
                     fmt::format("{}", rows)});
  };
  check("--batch-size", s.batch_size);
  for (const Stages::Stage& stage : BatchStages(s).first) check("--batch-size-schedule", stage.value);
}

void InviteRanks(Ranks& ranks, const TrainSettings& resolved, const ModelConfig& config,
                 const std::string& tokenizer_folder, const RunData& data) {
  if (ranks.group().alone()) return;
  const Json invitation = {{"asked", ParseJson(ranks.asked(), "flags")},
                           {"settings", ParseJson(WriteFields(resolved), "settings")},
                           {"config", ToJson(config)},
                           {"tokenizer_folder", tokenizer_folder},
                           {"stamps", StampsOf(data)}};
  ranks.Start(RankTask::kBegin);
  BroadcastText(ranks.group(), invitation.dump());
  ranks.Agree(nullptr);
  ranks.Done();
}

void FollowTraining(Ranks& ranks) {
  if (ranks.Next() != RankTask::kBegin) return;
  const Json invitation = ParseJson(BroadcastText(ranks.group(), ""), "rank 0");
  Follower follower;
  std::exception_ptr error;
  try {
    Begin(ranks, invitation, follower);
  } catch (const std::exception&) {
    error = std::current_exception();
  }
  try {
    ranks.Agree(error);
  } catch (const FailedElsewhere&) {
    CHECK(ranks.Next() == RankTask::kEnd);
    return;
  }
  follower.trainer->Follow();
}

}  // namespace taipan
