#pragma once
// The results of a task's items in a file that grows with them: what an interrupted run has done is not done again.

#include <nlohmann/json.hpp>
#include <string>
#include <unordered_map>
#include <vector>

#include "eval/result.h"

namespace taipan {

struct KeptItem {
  int64_t index = 0;    // in its task, for people
  uint64_t digest = 0;  // of its tokens, by which it is found again
  ItemResult result = {};
};

// JSON lines: who answered (the header), then an item each. A last line that was cut by an interruption is dropped.
class ItemsFile {
 public:
  // UserError where the file belongs to another header, naming what differs, and for lines that it did not write.
  ItemsFile(const std::string& path, const nlohmann::ordered_json& header);

  const ItemResult* Find(uint64_t digest) const;  // null: not kept
  // Adds items; on the disk when it returns.
  void Append(const std::vector<KeptItem>& items);

 private:
  void ReadKept(const std::string& text, const nlohmann::ordered_json& header);

  std::string path_;
  std::unordered_map<uint64_t, ItemResult> kept_;
};

}  // namespace taipan
