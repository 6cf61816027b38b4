#include "train/task_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>

#include "base/error.h"
#include "base/rng.h"
#include "train/recall_task.h"

namespace taipan {
namespace {

const std::map<std::string, std::vector<std::string>>& Tasks() {
  static const std::map<std::string, std::vector<std::string>> tasks = {
      {"mqar", {"length", "pairs", "vocab", "contexts", "seed"}},
      {"copy", {"length", "vocab", "seed"}},
      {"passkey", {"length", "digits", "seed"}}};
  return tasks;
}

struct Task {
  std::string given, name;
  std::map<std::string, int64_t> numbers;

  int64_t Get(const std::string& key, int64_t otherwise) const {
    const auto found = numbers.find(key);
    return found == numbers.end() ? otherwise : found->second;
  }
  void Require(bool condition, const std::string& expected) const {
    if (!condition) throw UserError({given, "the numbers of the task do not go together", expected});
  }
};

// No value: no task.
std::optional<Task> ParseTask(const std::string& given) {
  const size_t colon = given.find(':');
  if (colon == given.npos || Tasks().count(given.substr(0, colon)) == 0) return std::nullopt;
  Task task{given, given.substr(0, colon), {}};
  std::string rest = given.substr(colon + 1);
  while (!rest.empty()) {
    const std::string item = rest.substr(0, rest.find(','));
    rest.erase(0, std::min(item.size() + 1, rest.size()));
    const size_t equals = item.find('=');
    if (equals == item.npos) return std::nullopt;
    int64_t value = 0;
    const char* const end = item.data() + item.size();
    const auto parsed = std::from_chars(item.data() + equals + 1, end, value);
    if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
    task.numbers[item.substr(0, equals)] = value;
  }
  return task;
}

void AppendSequence(Batch& batch, const RecallSequence& s, int64_t row) {
  Segment segment;
  segment.begin = batch.size();
  segment.length = static_cast<int64_t>(s.tokens.size());
  segment.row = row;
  batch.segments.push_back(segment);
  batch.tokens.insert(batch.tokens.end(), s.tokens.begin(), s.tokens.end());
  batch.targets.insert(batch.targets.end(), s.targets.begin(), s.targets.end());
}

class TaskSource : public BatchSource {
 public:
  explicit TaskSource(int64_t batch_size) : batch_size_(batch_size) {}
  int64_t batch_size() const override { return batch_size_; }
  void Fill(int64_t step, int64_t first_row, int64_t rows, Batch& batch) const override {
    ClearBatch(batch);
    for (int64_t row = first_row; row < first_row + rows; ++row) {
      AppendSequence(batch, Make(static_cast<uint64_t>(step * batch_size_ + row)), row);
    }
  }

 protected:
  virtual RecallSequence Make(uint64_t index) const = 0;

 private:
  int64_t batch_size_;
};

class Mqar : public TaskSource {
 public:
  Mqar(const Task& task, int64_t context, int64_t batch_size, int64_t vocab_size) : TaskSource(batch_size) {
    task_.length = task.Get("length", context);
    task_.pairs = task.Get("pairs", 16);
    task_.vocab = task.Get("vocab", std::min<int64_t>(vocab_size, 256));
    task_.contexts = task.Get("contexts", 1);
    task_.seed = static_cast<uint64_t>(task.Get("seed", 0));
    const int64_t c = task_.contexts, p = task_.pairs;
    task.Require(task_.vocab >= 4 && task_.vocab <= vocab_size, fmt::format("vocab from 4 to {}", vocab_size));
    task.Require(p >= 1 && c >= 1 && p % c == 0, "pairs from 1, a multiple of contexts");
    task.Require(task_.vocab / 2 - 1 - (c > 1 ? c : 0) >= p / c, "a vocab with a key for each of the pairs");
    task.Require(task_.length >= (c > 1 ? c + 4 * p : 3 * p), "a length with room for the pairs and their questions");
  }

 private:
  RecallSequence Make(uint64_t index) const override { return MakeRecallSequence(task_, index); }
  RecallTask task_;
};

// Random ids from 1 on, id 0, and the same again.
class Copy : public TaskSource {
 public:
  Copy(const Task& task, int64_t context, int64_t batch_size, int64_t vocab_size)
      : TaskSource(batch_size),
        half_(task.Get("length", context) / 2),
        vocab_(task.Get("vocab", std::min<int64_t>(vocab_size, 256))),
        seed_(static_cast<uint64_t>(task.Get("seed", 0))) {
    task.Require(half_ >= 1 && half_ < int64_t{1} << 30, "a length of at least 2");
    task.Require(vocab_ >= 2 && vocab_ <= vocab_size, fmt::format("vocab from 2 to {}", vocab_size));
  }

 private:
  RecallSequence Make(uint64_t index) const override {
    const RandomKey key{seed_ + (index << 8), kTaskStream + 16, 0};
    RecallSequence s;
    for (int64_t i = 0; i < half_; ++i) {
      s.tokens.push_back(
          1 + static_cast<int32_t>(RandomBelow(key, static_cast<uint64_t>(i), static_cast<uint64_t>(vocab_ - 1))));
    }
    s.targets.assign(s.tokens.size(), -1);
    s.targets.insert(s.targets.end(), s.tokens.begin(), s.tokens.end());
    s.tokens.push_back(0);
    s.tokens.insert(s.tokens.end(), s.tokens.begin(), s.tokens.begin() + half_ - 1);
    return s;
  }
  int64_t half_, vocab_;
  uint64_t seed_;
};

class Passkey : public TaskSource {
 public:
  Passkey(const Task& task, int64_t context, int64_t batch_size, const Tokenizer& tokenizer)
      : TaskSource(batch_size),
        length_(task.Get("length", context)),
        digits_(task.Get("digits", 5)),
        seed_(static_cast<uint64_t>(task.Get("seed", 0))),
        head_(tokenizer.Encode("There is a pass key hidden in this text.")),
        filler_(tokenizer.Encode(
            " The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.")),
        before_(tokenizer.Encode(" The pass key is")),
        behind_(tokenizer.Encode(". Remember it.")),
        question_(tokenizer.Encode(" What is the pass key? The pass key is")) {
    for (const char digit : std::string("0123456789")) number_.push_back(tokenizer.Encode(std::string(" ") + digit));
    task.Require(digits_ >= 1 && digits_ <= 18, "digits from 1 to 18");
    task.Require(length_ >= Fixed(), fmt::format("a length of at least {} tokens", Fixed()));
  }

 private:
  using Ids = std::vector<int32_t>;
  // Tokens of a row without filler, the last of which is no input; with numbers as long as they get.
  int64_t Fixed() const {
    size_t longest = 0;
    for (const Ids& digit : number_) longest = std::max(longest, digit.size());
    return static_cast<int64_t>(head_.size() + before_.size() + behind_.size() + question_.size() +
                                2 * static_cast<size_t>(digits_) * longest);
  }
  RecallSequence Make(uint64_t index) const override {
    const RandomKey key{seed_ + (index << 8), kTaskStream + 17, 0};
    Ids number;
    for (int64_t i = 0; i < digits_; ++i) {
      const Ids& digit = number_[RandomBelow(key, static_cast<uint64_t>(i), 10)];
      number.insert(number.end(), digit.begin(), digit.end());
    }
    const auto size = [](const Ids& ids) { return static_cast<int64_t>(ids.size()); };
    const int64_t room = length_ + 1 - size(head_) - size(before_) - size(behind_) - size(question_) - 2 * size(number);
    const auto first = static_cast<int64_t>(RandomBelow(key, 100, static_cast<uint64_t>(room + 1)));
    Ids all = head_;
    const auto append = [&](const Ids& ids) { all.insert(all.end(), ids.begin(), ids.end()); };
    const auto fill = [&](int64_t count) {
      for (int64_t i = 0; i < count; ++i) all.push_back(filler_[static_cast<size_t>(i) % filler_.size()]);
    };
    fill(first);
    append(before_);
    append(number);
    append(behind_);
    fill(room - first);
    append(question_);
    append(number);
    RecallSequence s{Ids(all.begin(), all.end() - 1), Ids(all.size() - 1, -1)};
    std::copy(number.begin(), number.end(), s.targets.end() - size(number));
    return s;
  }

  int64_t length_, digits_;
  uint64_t seed_;
  Ids head_, filler_, before_, behind_, question_;
  std::vector<Ids> number_;  // of each digit
};

}  // namespace

bool IsTask(const std::string& given) { return ParseTask(given).has_value(); }

bool TaskNeedsTokenizer(const std::string& task) { return task.starts_with("passkey:"); }

std::shared_ptr<const BatchSource> MakeTask(const std::string& given, int64_t context, int64_t batch_size,
                                            int64_t vocab_size, const Tokenizer* tokenizer) {
  const std::optional<Task> task = ParseTask(given);
  CHECK(task.has_value());
  task->Require(task->Get("length", context) <= context, fmt::format("a length of at most --context {}", context));
  const std::vector<std::string>& known = Tasks().at(task->name);
  for (const auto& [key, value] : task->numbers) {
    if (std::find(known.begin(), known.end(), key) != known.end() && value >= 0 && value < int64_t{1} << 40) continue;
    throw UserError({given, fmt::format("\"{}\" is nothing that {} can be told", key, task->name),
                     fmt::format("{}, numbers from 0", fmt::join(known, ", ")), fmt::format("{}={}", key, value)});
  }
  if (task->name == "mqar") return std::make_shared<Mqar>(*task, context, batch_size, vocab_size);
  if (task->name == "copy") return std::make_shared<Copy>(*task, context, batch_size, vocab_size);
  if (tokenizer == nullptr)
    throw UserError({.where = given, .problem = "needs a tokenizer", .hint = "--tokenizer byte"});
  return std::make_shared<Passkey>(*task, context, batch_size, *tokenizer);
}

}  // namespace taipan
