#include "formats/safetensors_set.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/fields.h"
#include "base/files.h"
#include "formats/safetensors_header.h"

namespace taipan {
namespace {

const char* const kWhole = "model.safetensors";
const char* const kIndex = "model.safetensors.index.json";
constexpr size_t kMostListed = 5;  // names in one message

// Reads every part; tensors that share memory are stored one by one, as safetensors demands.
const char* const kConvert =
    "python3 -c \"import glob, sys, torch; from safetensors.torch import save_file; d = sys.argv[1]; w = {}; "
    "[w.update(torch.load(f, map_location='cpu', weights_only=True)) for f in sorted(glob.glob(d + "
    "'/pytorch_model*.bin'))]; save_file({k: v.clone().contiguous() for k, v in w.items()}, d + "
    "'/model.safetensors')\"";

[[noreturn]] void RefuseFolder(const std::string& folder) {
  if (!IsDirectory(folder)) throw UserError({folder, "no such folder", "a model's folder"});
  const std::vector<std::string> names = ListDirectory(folder);
  const bool pickled = std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return name.starts_with("pytorch_model") && name.ends_with(".bin");
  });
  if (pickled) {
    throw UserError({folder, "the weights are in PyTorch's pickle format, which can run code when it is read", kWhole,
                     "pytorch_model*.bin", fmt::format("convert them: {} {}", kConvert, folder)});
  }
  throw UserError({folder, "no weights", fmt::format("{} or {}", kWhole, kIndex), "neither"});
}

std::string ListOf(const std::vector<std::string>& names) {
  std::string list;
  for (size_t i = 0; i < std::min(names.size(), kMostListed); ++i) list += (i == 0 ? "" : ", ") + QuoteName(names[i]);
  if (names.size() > kMostListed) list += fmt::format(" and {} more", names.size() - kMostListed);
  return list;
}

// A file of the folder itself: no separators, no way up, no zero byte at which the system would end the name.
bool IsPlainName(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find_first_of(std::string_view("/\0", 2)) == name.npos;
}

// tensor name -> shard
std::map<std::string, std::string> ReadWeightMap(const std::string& path) {
  const Json index = ParseJson(ReadFile(path), path);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    throw UserError(
        {path, "no list of shards", "an object \"weight_map\" of tensor names and files",
         index.is_object() && index.contains("weight_map") ? DescribeJson(index["weight_map"]) : DescribeJson(index)});
  }
  std::map<std::string, std::string> map;
  for (const auto& [name, shard] : index["weight_map"].items()) {
    if (!shard.is_string()) {
      throw UserError({path, "bad file of tensor " + QuoteName(name), "a string", DescribeJson(shard)});
    }
    const auto& file = shard.get_ref<const std::string&>();
    if (!IsPlainName(file)) {
      throw UserError(
          {path, "bad file of tensor " + QuoteName(name), "the name of a file in the same folder", QuoteName(file)});
    }
    map.emplace(name, file);
  }
  if (map.empty()) throw UserError({path, "an empty weight_map", "at least one tensor"});
  return map;
}

std::string ShardName(size_t index, size_t count) {
  return count == 1 ? kWhole : fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

}  // namespace

SafetensorsSet::SafetensorsSet(const std::string& folder) : path_(folder) {
  const std::string whole = folder + "/" + kWhole, index = folder + "/" + kIndex;
  if (PathExists(whole)) {  // transformers, too, prefers it to an index
    files_.emplace_back(whole);
    AddTensors(0);
  } else if (PathExists(index)) {
    OpenShards(index);
  } else {
    RefuseFolder(folder);
  }
}

void SafetensorsSet::OpenShards(const std::string& index_path) {
  const std::map<std::string, std::string> map = ReadWeightMap(index_path);
  std::map<std::string, size_t> shards;  // name -> index into files_
  std::vector<std::string> missing;
  for (const auto& [name, shard] : map) shards.emplace(shard, 0);
  for (const auto& [shard, index] : shards) {
    if (!PathExists(path_ + "/" + shard)) missing.push_back(shard);
  }
  if (!missing.empty()) {
    throw UserError({.where = index_path,
                     .problem = fmt::format("{} of {} shards missing from the folder", missing.size(), shards.size()),
                     .hint = "missing: " + ListOf(missing)});
  }
  for (auto& [shard, index] : shards) {
    index = files_.size();
    files_.emplace_back(path_ + "/" + shard);
  }
  for (const auto& [name, shard] : map) {  // of copies in other shards the index says which one counts
    if (files_[shards.at(shard)].Has(name)) file_of_.emplace(name, shards.at(shard));
  }
  for (size_t file = 0; file < files_.size(); ++file) {
    AddTensors(file, [&](const std::string& name) { return map.count(name) != 0; });
  }
  for (const auto& [name, shard] : map) {
    if (file_of_.count(name) != 0) continue;
    const auto other = std::find_if(files_.begin(), files_.end(), [&](const auto& file) { return file.Has(name); });
    throw UserError({index_path, "tensor " + QuoteName(name) + " is not in the shard that the index names",
                     QuoteName(shard), other == files_.end() ? "in none" : other->path()});
  }
}

void SafetensorsSet::AddTensors(size_t file, const std::function<bool(const std::string&)>& known) {
  for (const std::string& name : files_[file].Names()) {
    if (known && known(name)) continue;
    const auto [at, added] = file_of_.emplace(name, file);
    if (added) continue;
    throw UserError({files_[file].path(), "tensor " + QuoteName(name) + " is in two shards and not in the index",
                     "in one", "also in " + files_[at->second].path()});
  }
}

const SafetensorsFile& SafetensorsSet::FileOf(const std::string& name) const {
  const auto found = file_of_.find(name);
  if (found == file_of_.end()) RefuseMissingTensor(files_.size() == 1 ? files_[0].path() : path_, name, Names());
  return files_[found->second];
}

std::vector<std::string> SafetensorsSet::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : file_of_) names.push_back(name);
  return names;
}

void WriteSafetensorsSet(const std::string& folder, const std::vector<SafetensorsItem>& items, int64_t most_bytes,
                         const std::map<std::string, std::string>& metadata) {
  std::vector<std::vector<SafetensorsItem>> shards(1);
  int64_t total = 0, in_shard = 0;
  for (const SafetensorsItem& item : items) {
    const int64_t bytes = BytesOf(item);
    if (in_shard + bytes > most_bytes && !shards.back().empty()) {
      shards.emplace_back();
      in_shard = 0;
    }
    shards.back().push_back(item);
    in_shard += bytes;
    total += bytes;
  }
  // What a reader would take instead of, or beside, what is written here.
  const std::string other = folder + "/" + (shards.size() == 1 ? kIndex : kWhole);
  if (PathExists(other)) {
    throw UserError({other, "stands in the way of the weights that are to be written", "a folder without it"});
  }
  nlohmann::ordered_json map = nlohmann::ordered_json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = ShardName(i, shards.size());
    WriteSafetensors(folder + "/" + name, shards[i], metadata);
    for (const SafetensorsItem& item : shards[i]) map[item.name] = name;
  }
  if (shards.size() == 1) return;
  const nlohmann::ordered_json index = {{"metadata", {{"total_size", total}}}, {"weight_map", map}};
  WriteFileAtomically(folder + "/" + kIndex, index.dump(2) + "\n");
}

}  // namespace taipan
