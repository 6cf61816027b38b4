#pragma once
// What the machine was measured to do, kept in a file of the user's cache so that every report can name it.

#include <optional>
#include <string>

#include "cli/bench/bench_stats.h"

namespace taipan {

// ${XDG_CACHE_HOME:-~/.cache}/taipan/roof.json; "" where neither variable is set.
std::string RoofCachePath();

// CPU, threads, `what` (a dtype, "memory"), instruction set: measurements under other keys do not count.
std::string MachineKey(const std::string& what);

// A cache is a convenience: a file that cannot be read counts as empty, one that cannot be written is left with a note.
class RoofCache {
 public:
  RoofCache();
  std::optional<OrderedJson> Find(const std::string& key) const;
  void Store(const std::string& key, OrderedJson value);  // adds "measured", seconds since 1970

 private:
  std::string path_;
  OrderedJson entries_ = OrderedJson::object();
};

}  // namespace taipan
