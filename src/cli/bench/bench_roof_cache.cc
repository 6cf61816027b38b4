#include "cli/bench/bench_roof_cache.h"

#include <cstdlib>
#include <ctime>

#include "base/cpu.h"
#include "base/error.h"
#include "base/files.h"
#include "base/parallel.h"
#include "kernels/isa.h"

namespace taipan {

std::string RoofCachePath() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache && *cache == '/') return std::string(cache) + "/taipan/roof.json";
  const char* home = std::getenv("HOME");
  return home && *home ? std::string(home) + "/.cache/taipan/roof.json" : "";
}

std::string MachineKey(const std::string& what) {
  return fmt::format("{} | {} threads | {} | {}", CpuModelName(), NumThreads(), what, ActiveIsa());
}

RoofCache::RoofCache() : path_(RoofCachePath()) {
  if (path_.empty() || !PathExists(path_)) return;
  try {
    entries_ = OrderedJson::parse(ReadFile(path_), nullptr, /*allow_exceptions=*/false);
  } catch (const UserError&) {
    // Not readable: measured again.
  }
  if (!entries_.is_object()) entries_ = OrderedJson::object();
}

std::optional<OrderedJson> RoofCache::Find(const std::string& key) const {
  const auto it = entries_.find(key);
  if (it == entries_.end() || !it->is_object()) return std::nullopt;
  return *it;
}

void RoofCache::Store(const std::string& key, OrderedJson value) {
  value["measured"] = static_cast<int64_t>(std::time(nullptr));
  entries_[key] = std::move(value);
  if (path_.empty()) return;
  try {
    MakeDirectories(path_.substr(0, path_.rfind('/')));
    WriteFileAtomically(path_, entries_.dump(1) + "\n");
  } catch (const UserError& error) {
    Note(fmt::format("the roof is not kept for the next time: {}", error.what()));
  }
}

}  // namespace taipan
