#include "train/ranks.h"

#include <vector>

#include "base/error.h"
#include "data/data_file.h"

namespace taipan {
namespace {

// How an error travels: its kind, its message. "": none.
std::string TextOf(std::exception_ptr error) {
  if (!error) return "";
  try {
    std::rethrow_exception(error);
  } catch (const DataChanged& e) {
    return std::string("D") + e.what();
  } catch (const std::exception& e) {
    return std::string("E") + e.what();
  }
}

}  // namespace

Ranks& OneRank() {
  static Ranks ranks(Alone());
  return ranks;
}

Ranks::~Ranks() {
  if (group_.alone() || !group_.leads()) return;
  try {
    busy_ ? group_.Desert() : Start(RankTask::kEnd);
  } catch (const std::exception&) {  // they are gone
  }
}

void Ranks::Start(RankTask task) {
  if (group_.alone() || !group_.leads()) return;
  CHECK(!busy_);
  busy_ = true;
  group_.Broadcast(std::as_writable_bytes(std::span<RankTask>(&task, 1)));
}

RankTask Ranks::Next() {
  RankTask task = RankTask::kEnd;
  group_.Broadcast(std::as_writable_bytes(std::span<RankTask>(&task, 1)));
  return task;
}

void Ranks::Agree(std::exception_ptr own) {
  if (group_.alone()) {
    if (own) std::rethrow_exception(own);
    return;
  }
  const std::vector<std::string> errors = GatherTexts(group_, TextOf(own));
  for (size_t rank = 0; rank < errors.size(); ++rank) {
    const std::string& error = errors[rank];
    if (error.empty()) continue;
    Done();
    if (!group_.leads()) throw FailedElsewhere();
    if (own) std::rethrow_exception(own);
    const Complaint complaint{.where = fmt::format("rank {}", rank), .problem = error.substr(1)};
    if (error[0] == 'D') throw DataChanged(complaint);
    throw UserError(complaint);
  }
}

}  // namespace taipan
