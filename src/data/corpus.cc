#include "data/corpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/cpu.h"
#include "base/error.h"
#include "base/logging.h"
#include "base/progress.h"
#include "data/corpus_part.h"
#include "data/file_kind.h"
#include "data/gunzip.h"
#include "data/stream_input.h"

namespace taipan {

Corpus::Corpus(const std::vector<std::string>& paths, const Tokenizer* tokenizer, int64_t vocab_size,
               const CorpusOptions& options)
    : vocab_size_(vocab_size), eos_(options.eos) {
  CHECK(!eos_ || (*eos_ >= 0 && *eos_ < vocab_size));
  const DataFiles found = FindData(paths, options.use);
  for (const std::string& note : found.notes) LogInfo("{}", note);
  for (const std::string& file : found.files) AddFile(file, tokenizer);
  if (size_ == 0) throw UserError("--data", "no data was given");
}

Corpus::Corpus(std::vector<int32_t> tokens, int64_t vocab_size, const std::string& name) : vocab_size_(vocab_size) {
  auto part = std::make_shared<CorpusPart>();
  part->path = name;
  part->size = static_cast<int64_t>(tokens.size());
  part->ids = std::move(tokens);
  const int64_t bytes = part->size * 4;
  for (int64_t i = 0; i < part->size; ++i) {
    const int32_t id = part->ids[static_cast<size_t>(i)];
    if (id < 0 || id >= vocab_size) part->RejectId(i, static_cast<uint64_t>(id), vocab_size);
  }
  stamps_.push_back({name, bytes, HashContent(reinterpret_cast<const char*>(part->ids.data()), bytes)});
  bytes_are_tokens_ = vocab_size == 256;
  AddSlice(part, 0, part->size);
}

Corpus::~Corpus() = default;

void Corpus::AddFile(const std::string& path, const Tokenizer* tokenizer) {
  auto part = std::make_shared<CorpusPart>();
  part->path = StreamName(path);
  if (IsStream(path)) {
    part->content = TakeStream(path);
    const auto bytes = static_cast<int64_t>(part->content.size());
    stamps_.push_back({path == "-" ? path : "pipe", bytes, HashContent(part->content.data(), bytes)});
  } else {
    part->file = std::make_unique<DataFile>(path, memory_);
    part->from_file = true;
    stamps_.push_back(part->file->stamp());
  }
  part->Recognise(part->path, vocab_size_);
  const bool packed = part->format.kind == DataKind::kGzip;
  if (packed) {
    const int64_t room = AvailableMemoryBytes();
    part->content = Gunzip(part->path, part->TakeContent(memory_), room > 0 ? room : int64_t{1} << 62);
    part->Recognise(WithoutGz(part->path), vocab_size_);
    if (part->format.kind == DataKind::kGzip) RefuseForeign(part->path, {"gzip in gzip", "unpack it first"});
  }
  ++kinds_[part->format.name + (packed ? " in gzip" : "")];
  if (part->format.is_text()) {
    if (!tokenizer) {
      throw UserError({.where = part->path,
                       .problem = "text needs a tokenizer and the model has none",
                       .hint = "give --tokenizer, or token files (.u16, .u32, .bin, .npy)"});
    }
    part->FillFromText(*tokenizer, eos_, vocab_size_, memory_);
    documents_ += static_cast<int64_t>(part->documents.size());
    bytes_are_tokens_ = bytes_are_tokens_ && IsByteTokenizer(tokenizer);
  } else {
    part->size = (part->content_size() - part->format.offset) / part->format.width;
    if (part->size == 0) throw UserError(part->path, "holds no tokens, only a header");
    part->Check(vocab_size_);
    // Without a tokenizer a vocabulary of 256 is taken for bytes.
    bytes_are_tokens_ = bytes_are_tokens_ && (tokenizer ? IsByteTokenizer(tokenizer) : vocab_size_ == 256);
  }
  AddSlice(part, 0, part->size);
}

void Corpus::AddSlice(std::shared_ptr<const CorpusPart> part, int64_t from, int64_t size) {
  if (size == 0) return;
  slices_.push_back({std::move(part), from, size, size_});
  size_ += size;
}

std::unique_ptr<Corpus> Corpus::HoldOut(double share) {
  CHECK(share > 0 && share < 1);
  constexpr double kLeast = 64;  // tokens: below, the end of a file says little
  const bool many = static_cast<double>(slices_.size()) * share >= 2;
  std::unique_ptr<Corpus> held(new Corpus(vocab_size_));
  held->bytes_are_tokens_ = bytes_are_tokens_;
  held->eos_ = eos_;
  const std::vector<Slice> all = std::move(slices_);
  slices_.clear();
  size_ = 0;
  double owed = 0;  // tokens that should have been held out and were not yet
  for (const Slice& s : all) {
    const auto n = static_cast<double>(s.size);
    owed += n * share;
    const bool whole = many && n * share < kLeast;
    const double held_out = whole ? (owed >= n / 2 ? n : 0) : std::clamp(std::round(owed), 0.0, n);
    const auto count = static_cast<int64_t>(held_out);
    owed -= held_out;
    AddSlice(s.part, s.from, s.size - count);
    held->AddSlice(s.part, s.from + s.size - count, count);
  }
  return held;
}

void Corpus::Read(int64_t begin, int64_t count, int32_t* out) const {
  CHECK_GE(begin, 0);
  CHECK_LE(begin + count, size_);
  auto it =
      std::upper_bound(slices_.begin(), slices_.end(), begin, [](int64_t at, const Slice& s) { return at < s.begin; });
  for (--it; count > 0; ++it) {
    const int64_t from = begin - it->begin;
    const int64_t n = std::min(count, it->size - from);
    it->part->Read(it->from + from, n, out);
    begin += n;
    out += n;
    count -= n;
  }
}

std::string Corpus::Describe() const {
  const std::string tokens = FormatCount(size_) + " tokens";
  if (stamps_.empty()) return tokens + " held out";
  int64_t bytes = 0;
  for (const FileStamp& stamp : stamps_) bytes += stamp.bytes;
  std::string kinds;
  for (const auto& [kind, files] : kinds_) {
    const std::string number = kinds_.size() == 1 ? "" : fmt::format("{} ", files);
    kinds += fmt::format("{}{}{}", kinds.empty() ? "" : ", ", number, kind);
  }
  const std::string documents =
      eos_ && documents_ > 0 ? fmt::format(" in {} document{}", documents_, documents_ == 1 ? "" : "s") : "";
  return fmt::format("{} file{} ({}), {}, {}{}", stamps_.size(), stamps_.size() == 1 ? "" : "s", kinds,
                     FormatBytes(bytes), tokens, documents);
}

void Corpus::CheckUnchanged() const {
  for (const Slice& s : slices_) {
    if (s.part->file) s.part->file->CheckUnchanged();
  }
}

void CheckSameData(const std::vector<FileStamp>& saved, const std::vector<FileStamp>& now, const std::string& where) {
  const auto show = [](const std::vector<FileStamp>& stamps, size_t i) {
    if (i >= stamps.size()) return std::string("no such file");
    return fmt::format("{} ({} bytes, content {:016x})", stamps[i].name, stamps[i].bytes, stamps[i].hash);
  };
  for (size_t i = 0; i < std::max(saved.size(), now.size()); ++i) {
    if (i < saved.size() && i < now.size() && saved[i] == now[i]) continue;
    const std::string number =
        saved.size() == now.size()
            ? ""
            : fmt::format(" of {} instead of {}, the tokenizer's among them", now.size(), saved.size());
    throw UserError({where, fmt::format("the run was trained on other data: file {}{}", i + 1, number), show(saved, i),
                     show(now, i), "a run continues on the data it began with"});
  }
}

}  // namespace taipan
