#include "data/tokenize.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/error.h"
#include "base/files.h"
#include "base/logging.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "data/corpus.h"
#include "data/encode_document.h"
#include "data/find_data.h"
#include "data/json_texts.h"
#include "data/shard.h"
#include "data/stream_input.h"

namespace taipan {
namespace {

constexpr size_t kBatch = size_t{32} << 20, kLong = size_t{1} << 20;  // bytes of text

class Tokenization {
 public:
  explicit Tokenization(const TokenizeRequest& request);
  ShardManifest Go();

 private:
  void Begin();
  void CheckContinues(const ShardManifest& saved) const;
  std::vector<EncodedDocument> Encode(const std::vector<RawDocument>& batch) const;
  EncodedDocument EncodeOne(const RawDocument& document) const;
  void Take(const std::vector<RawDocument>& batch);
  void FinishShard(const DocumentPosition& next);
  void Show(const DocumentReader& reader);

  const TokenizeRequest& request_;
  std::vector<std::string> files_;
  int64_t total_bytes_ = 0;  // of the files; 0 where a stream is among them
  ShardManifest manifest_;
  std::optional<ShardBuilder> builder_;
  DocumentPosition done_;  // what the builder holds, too
  int64_t empty_ = 0;
  ProgressLine progress_;
  double begin_ = NowSeconds();
  int64_t skipped_bytes_ = 0;                 // of files that are not opened again
  int64_t first_bytes_ = 0, tokens_now_ = 0;  // of this process
};

Tokenization::Tokenization(const TokenizeRequest& request) : request_(request) {
  DataFiles found = FindData(request.data, DataUse::kTraining);
  for (const std::string& note : found.notes) LogInfo("{}", note);
  files_ = std::move(found.files);
  bool streams = false;
  for (const std::string& file : files_) {
    int64_t no_memory = 0;
    const FileStamp stamp = IsStream(file) ? FileStamp{StreamName(file), 0, 0} : DataFile(file, no_memory).stamp();
    streams = streams || IsStream(file);
    total_bytes_ += stamp.bytes;
    manifest_.sources.push_back(stamp);
  }
  if (streams) total_bytes_ = 0;
  ShardHeader header;
  header.tokenizer = TokenizerDigest(*request.tokenizer);
  header.vocab_size = request.tokenizer->vocab_size();
  header.width = header.vocab_size <= 65536 ? 2 : 4;
  header.eos = request.eos;
  builder_.emplace(header);
  manifest_.tokenizer = fmt::format("{:016x}", header.tokenizer);
  manifest_.tokenizer_name = request.tokenizer_name;
  manifest_.vocab_size = header.vocab_size;
  manifest_.width = header.width;
  manifest_.shard_tokens = request.shard_tokens;
  if (request.eos) manifest_.eos = *request.eos;
}

// Throws where the folder's shards were made of something else.
void Tokenization::CheckContinues(const ShardManifest& saved) const {
  const auto refuse = [&](const std::string& what, const std::string& expected, const std::string& found) {
    throw UserError({request_.out, "the folder holds shards that were begun with another " + what, expected, found,
                     "take another --out, or remove the folder"});
  };
  const auto name = [](const std::optional<int64_t>& eos) { return eos ? std::to_string(*eos) : std::string("none"); };
  if (saved.tokenizer != manifest_.tokenizer) refuse("tokenizer", saved.tokenizer, manifest_.tokenizer);
  if (saved.eos != manifest_.eos) refuse("end of text", name(saved.eos), name(manifest_.eos));
  if (saved.shard_tokens != manifest_.shard_tokens) {
    refuse("--shard-tokens", std::to_string(saved.shard_tokens), std::to_string(manifest_.shard_tokens));
  }
  if (saved.sources != manifest_.sources) CheckSameData(saved.sources, manifest_.sources, request_.out);
  if (!saved.complete && total_bytes_ == 0) {
    throw UserError({.where = request_.out,
                     .problem = "what a stream gave cannot be continued",
                     .expected = "files",
                     .hint = "remove the folder to begin again"});
  }
}

void Tokenization::Begin() {
  if (IsShardFolder(request_.out)) {
    ShardManifest saved = ReadManifest(request_.out);
    CheckContinues(saved);
    manifest_ = std::move(saved);
    if (!manifest_.complete) {
      LogInfo("goes on behind {} shards with {} tokens", manifest_.shards.size(), FormatCount(manifest_.tokens()));
    }
    return;
  }
  if (PathExists(request_.out) && !ListDirectory(request_.out).empty()) {
    throw UserError({request_.out, "the folder holds something else", "an empty or new folder, or shards"});
  }
  MakeDirectories(request_.out + "/tokenizer");
  for (const auto& [name, content] : request_.tokenizer_files) {
    WriteFileAtomically(request_.out + "/tokenizer/" + name, content);
  }
  WriteManifest(manifest_, request_.out);
}

ShardManifest Tokenization::Go() {
  Begin();
  if (manifest_.complete) return manifest_;
  DocumentReader reader(files_);
  reader.SkipTo(manifest_.next);
  for (int64_t i = 0; i < manifest_.next.file; ++i) skipped_bytes_ += manifest_.sources[static_cast<size_t>(i)].bytes;
  first_bytes_ = reader.bytes_read();
  const size_t most = std::min(kBatch, static_cast<size_t>(request_.shard_tokens) * 4);
  for (std::vector<RawDocument> batch; !(batch = reader.NextBatch(most)).empty();) {
    Take(batch);
    Show(reader);
  }
  if (builder_->documents() > 0) FinishShard(done_);
  if (manifest_.shards.empty()) throw UserError(request_.data.at(0), "the data holds no text");
  manifest_.complete = true;
  WriteManifest(manifest_, request_.out);
  progress_.Finish();
  if (empty_ > 0) LogInfo("{} texts are empty and left out", empty_);
  return manifest_;
}

EncodedDocument Tokenization::EncodeOne(const RawDocument& document) const {
  const DocumentEncoder encoder(*request_.tokenizer, request_.eos, request_.chat);
  return document.is_json ? encoder.Object(ParseObject(document.bytes, document.where), document.where)
                          : encoder.Text(document.bytes);
}

// Long documents one by one, each in parallel; short ones side by side.
std::vector<EncodedDocument> Tokenization::Encode(const std::vector<RawDocument>& batch) const {
  std::vector<EncodedDocument> encoded(batch.size());
  for (size_t i = 0; i < batch.size(); ++i) {
    if (batch[i].bytes.size() > kLong) encoded[i] = EncodeOne(batch[i]);
  }
  ParallelFor(static_cast<int64_t>(batch.size()), [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    if (batch[at].bytes.size() <= kLong) encoded[at] = EncodeOne(batch[at]);
  });
  return encoded;
}

void Tokenization::Take(const std::vector<RawDocument>& batch) {
  const std::vector<EncodedDocument> encoded = Encode(batch);
  for (size_t i = 0; i < encoded.size(); ++i) {
    const auto tokens = static_cast<int64_t>(encoded[i].ids.size());
    if (tokens == 0) {
      ++empty_;
    } else {
      if (builder_->documents() > 0 && builder_->tokens() + tokens > request_.shard_tokens) FinishShard(done_);
      builder_->Add(encoded[i].ids, encoded[i].weights);
      tokens_now_ += tokens;
    }
    done_ = batch[i].next;
  }
}

void Tokenization::FinishShard(const DocumentPosition& next) {
  const std::string name = fmt::format("tokens-{:05}.shard", manifest_.shards.size());
  const ShardHeader header = builder_->Write(request_.out + "/" + name);
  manifest_.shards.push_back({name, header.tokens, header.documents, fmt::format("{:016x}", header.checksum)});
  manifest_.next = next;
  WriteManifest(manifest_, request_.out);
}

void Tokenization::Show(const DocumentReader& reader) {
  const double seconds = NowSeconds() - begin_;
  const auto now = static_cast<double>(reader.bytes_read() - first_bytes_);
  const int64_t at = skipped_bytes_ + reader.bytes_read();
  const int64_t tokens = manifest_.tokens() + builder_->tokens();
  std::vector<ProgressPart> parts = {{fmt::format("{} tokens", FormatCount(tokens)), 3}};
  if (total_bytes_ > 0) {
    parts.insert(parts.begin(), {fmt::format("{} of {}", FormatBytes(at), FormatBytes(total_bytes_)), 4});
  }
  parts.push_back({fmt::format("{} tokens/s", FormatCount(static_cast<int64_t>(tokens_now_ / seconds))), 2});
  if (total_bytes_ > 0 && now > 0) {
    const double left = static_cast<double>(total_bytes_ - at) / now * seconds;
    parts.push_back({FormatDuration(left) + " left", 1});
  }
  progress_.Update(parts);
}

}  // namespace

ShardManifest TokenizeData(const TokenizeRequest& request) { return Tokenization(request).Go(); }

}  // namespace taipan
