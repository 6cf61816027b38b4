#include "eval/items_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "base/error.h"
#include "base/fields.h"
#include "base/files.h"

namespace taipan {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::string Line(const OrderedJson& json) {
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

OrderedJson ItemJson(const KeptItem& item) {
  OrderedJson json = {{"item", item.index}, {"digest", fmt::format("{:016x}", item.digest)}};
  if (!item.result.logprobs.empty()) {
    json["logprobs"] = item.result.logprobs;
    json["greedy"] = item.result.greedy;
  }
  if (item.result.logprobs.empty() || !item.result.completion.empty()) json["completion"] = item.result.completion;
  return json;
}

KeptItem ReadItem(std::string_view line, const std::string& where) {
  try {
    const Json json = Json::parse(line);
    const std::string digest = json.at("digest").get<std::string>();
    KeptItem item{.index = json.at("item").get<int64_t>()};
    const auto end = std::from_chars(digest.data(), digest.data() + digest.size(), item.digest, 16);
    if (json.contains("logprobs")) {
      item.result.logprobs = json.at("logprobs").get<std::vector<double>>();
      item.result.greedy = json.at("greedy").get<std::vector<bool>>();
    }
    if (json.contains("completion")) item.result.completion = json.at("completion").get<std::string>();
    if (end.ec == std::errc() && digest.size() == 16 && item.result.greedy.size() == item.result.logprobs.size()) {
      return item;
    }
  } catch (const nlohmann::json::exception&) {  // below
  }
  throw UserError({where, "no result of an item", R"({"item": ..., "digest": ..., ...})",
                   std::string(line.substr(0, 80)), "was the file edited? Remove it to answer its items again"});
}

// Appends to a file and waits for the disk.
void AppendToFile(const std::string& path, const std::string& text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  bool good = fd >= 0;
  for (size_t at = 0; good && at < text.size();) {
    const ssize_t written = ::write(fd, text.data() + at, text.size() - at);
    if (written < 0 && errno == EINTR) continue;
    good = written > 0;
    if (good) at += static_cast<size_t>(written);
  }
  good = good && ::fdatasync(fd) == 0;
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (!good) throw UserError(path, fmt::format("cannot be written: {}", std::strerror(error)));
}

}  // namespace

ItemsFile::ItemsFile(const std::string& path, const OrderedJson& header) : path_(path) {
  if (PathExists(path)) {
    std::string text = ReadFile(path);
    const size_t whole = text.rfind('\n') + 1;  // 0 where there is no line
    if (whole > 0) {
      text.resize(whole);
      ReadKept(text, header);
      WriteFileAtomically(path, text);
      return;
    }
  }
  WriteFileAtomically(path, Line(header));
}

void ItemsFile::ReadKept(const std::string& text, const OrderedJson& header) {
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    if (++number > 1) {
      KeptItem item = ReadItem(line, fmt::format("{}: line {}", path_, number));
      kept_[item.digest] = std::move(item.result);
      continue;
    }
    const OrderedJson found = OrderedJson::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!found.is_object())
      throw UserError({path_, "no file of results", Line(header), std::string(line.substr(0, 80))});
    for (const auto& [key, value] : header.items()) {
      const std::string kept = found.contains(key) ? found.at(key).dump() : "nothing";
      if (kept == value.dump()) continue;
      throw UserError({path_, fmt::format("holds results of another run: \"{}\" differs", key), value.dump(), kept,
                       "give --out another folder"});
    }
  }
}

const ItemResult* ItemsFile::Find(uint64_t digest) const {
  const auto found = kept_.find(digest);
  return found == kept_.end() ? nullptr : &found->second;
}

void ItemsFile::Append(const std::vector<KeptItem>& items) {
  std::string text;
  for (const KeptItem& item : items) text += Line(ItemJson(item));
  AppendToFile(path_, text);
}

}  // namespace taipan
