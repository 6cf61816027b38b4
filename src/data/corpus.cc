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
#include "data/stream_input.h"
#include "data/unpack.h"

namespace taipan {

Corpus::Corpus(const std::vector<std::string>& paths, const Tokenizer* tokenizer, int64_t vocab_size,
               const CorpusOptions& options)
    : vocab_size_(vocab_size), eos_(options.eos) {
  CHECK(!eos_ || (*eos_ >= 0 && *eos_ < vocab_size));
  const DataFiles found = FindData(paths, options.use);
  for (const std::string& note : found.notes) LogInfo("{}", note);
  for (const std::string& file : found.files) AddFile(file, tokenizer, options);
  if (size_ == 0) throw UserError("--data", "no data was given");
}

Corpus::Corpus(std::vector<int32_t> tokens, int64_t vocab_size, const std::string& name) : vocab_size_(vocab_size) {
  auto part = std::make_shared<CorpusPart>();
  part->path = name;
  part->size = static_cast<int64_t>(tokens.size());
  part->ids = std::move(tokens);
  part->documents = {0};
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

void Corpus::AddFile(const std::string& path, const Tokenizer* tokenizer, const CorpusOptions& options) {
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
  std::string packing;
  if (part->format.kind == DataKind::kPacked) {
    packing = " in " + part->format.name;
    const int64_t room = AvailableMemoryBytes();
    part->content = Unpack(part->path, part->TakeContent(memory_), room > 0 ? room : int64_t{1} << 62);
    part->Recognise(WithoutPacking(part->path), vocab_size_);
    if (part->format.kind == DataKind::kPacked)
      RefuseForeign(part->path, {part->format.name + packing, "unpack it first"});
  }
  ++kinds_[part->format.name + packing];
  if (part->format.is_text()) {
    if (!tokenizer) {
      throw UserError({.where = part->path,
                       .problem = "text needs a tokenizer and the model has none",
                       .hint = "give --tokenizer, or token files (.u16, .u32, .bin, .npy)"});
    }
    part->FillFromText(*tokenizer, options, vocab_size_, memory_);
    bytes_are_tokens_ = bytes_are_tokens_ && IsByteTokenizer(tokenizer);
  } else {
    part->size = (part->ids_end() - part->format.offset) / part->format.width;
    if (part->size == 0) throw UserError(part->path, "holds no tokens, only a header");
    if (part->format.shard) AcceptShard(*part, tokenizer);
    part->Check(vocab_size_);
    if (!part->format.shard) FindDocuments(*part, options.separate);
    // Without a tokenizer a vocabulary of 256 is taken for bytes.
    bytes_are_tokens_ = bytes_are_tokens_ && (tokenizer ? IsByteTokenizer(tokenizer) : vocab_size_ == 256);
  }
  AddSlice(part, 0, part->size);
}

// Throws where it was made for another reader than this one.
void Corpus::AcceptShard(const CorpusPart& part, const Tokenizer* tokenizer) {
  const ShardHeader& shard = *part.format.shard;
  if (!digest_) digest_ = tokenizer ? TokenizerDigest(*tokenizer) : shard.tokenizer;
  if (*digest_ != shard.tokenizer) {
    throw UserError({part.path, "the shard was made with another tokenizer",
                     tokenizer ? fmt::format("one of {} tokens, digest {:016x}", tokenizer->vocab_size(), *digest_)
                               : fmt::format("digest {:016x}, that of the first shard", *digest_),
                     fmt::format("one of {} tokens, digest {:016x}", shard.vocab_size, shard.tokenizer),
                     "the folder of the shards keeps theirs in its folder tokenizer"});
  }
  if (!eos_ && slices_.empty()) eos_ = shard.eos;
  if (eos_ != shard.eos) {
    const auto name = [](std::optional<int32_t> id) { return id ? fmt::format("token {}", *id) : "none"; };
    throw UserError(
        {part.path, "the shard ends its documents with another token", name(eos_), name(shard.eos), "see --eos"});
  }
  part.CheckShard();
}

void Corpus::FindDocuments(CorpusPart& part, bool separate) const {
  part.documents = {0};
  if (!separate) return;
  if (!eos_) {
    throw UserError({.where = part.path,
                     .problem = "where a document of this token file ends is not known",
                     .expected = "the id that ends one",
                     .hint = "give --eos ID, or --packing join"});
  }
  part.FindDocuments(*eos_);
}

void Corpus::AddSlice(std::shared_ptr<const CorpusPart> part, int64_t from, int64_t size) {
  if (size == 0) return;
  const int64_t first = part->DocumentAt(from), last = part->DocumentAt(from + size - 1);
  weighted_ = weighted_ || part->weighted();
  slices_.push_back({std::move(part), from, size, size_, first, last - first + 1, documents_});
  documents_ += last - first + 1;
  size_ += size;
}

std::vector<DocumentSpan> Corpus::Documents(int64_t first, int64_t count) const {
  CHECK(first >= 0 && count >= 0 && first + count <= documents_);
  std::vector<DocumentSpan> spans;
  spans.reserve(static_cast<size_t>(count));
  auto it = std::upper_bound(slices_.begin(), slices_.end(), first,
                             [](int64_t number, const Slice& s) { return number < s.before; });
  for (--it; count > 0; ++it) {
    const int64_t from = first - it->before, n = std::min(count, it->documents - from);
    const std::vector<int64_t> begins = it->part->DocumentBegins(it->first + from, n + 1);
    for (int64_t i = 0; i < n; ++i) {
      const auto at = static_cast<size_t>(i);
      const int64_t begin = std::max(begins[at], it->from), end = std::min(begins[at + 1], it->from + it->size);
      spans.push_back({it->begin + begin - it->from, end - begin});
    }
    first += n;
    count -= n;
  }
  return spans;
}

const Corpus::Slice& Corpus::SliceAt(int64_t token) const {
  CHECK(token >= 0 && token < size_);
  auto it =
      std::upper_bound(slices_.begin(), slices_.end(), token, [](int64_t at, const Slice& s) { return at < s.begin; });
  return *--it;
}

int64_t Corpus::DocumentAt(int64_t token) const {
  const Slice& s = SliceAt(token);
  return s.before + s.part->DocumentAt(s.from + token - s.begin) - s.first;
}

void Corpus::ReadWeights(int64_t begin, int64_t count, float* out) const {
  while (count > 0) {
    const Slice& s = SliceAt(begin);
    const int64_t from = begin - s.begin, n = std::min(count, s.size - from);
    s.part->ReadWeights(s.from + from, n, out);
    begin += n;
    out += n;
    count -= n;
  }
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
  size_ = documents_ = 0;
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
