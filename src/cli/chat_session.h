#pragma once
// What `taipan chat` does with a line: a message to the model, or a command that begins with a slash.

#include <string>

#include "cli/line_editor.h"
#include "cli/sampling_flags.h"
#include "infer/conversation.h"
#include "infer/prefix_cache.h"
#include "model/default_dtype.h"

namespace taipan {

struct ChatFlags {
  std::string model, tokenizer, system, cache;
  ComputeType dtype = ComputeType::kAuto;
  KvType kv_dtype = KvType::kAuto;
  std::vector<std::string> stop;
  int64_t max_tokens = 1024;
  int64_t cache_memory = 1024;  // MiB
  SamplingFlags sampling;
  std::optional<double> budget;
};

class ChatSession {
 public:
  // Everything must outlive it.
  ChatSession(const ChatFlags& flags, const LanguageModel& model, const ModelText& text, LineEditor& editor);

  // False where it was the last one. UserErrors leave the conversation as it was.
  bool Take(const std::string& line);
  void Close();  // what the cache keeps on disk is written

 private:
  bool TakeLine(const std::string& line);
  bool Command(const std::string& name, const std::string& rest);
  void Turn();
  void Say(const std::string& text);
  void Undo();
  void Edit(const std::string& rest);
  void Regenerate();
  void Load(const std::string& file);
  void Save(const std::string& file) const;
  void ShowHistory() const;
  GenerationStats Write(const Conversation::Prompt& prompt, std::string& answer);

  const ChatFlags& flags_;
  const LanguageModel& model_;
  const ModelText& text_;
  LineEditor& editor_;
  Conversation conversation_;
  PrefixCache cache_;
  Generator generator_;
  uint64_t again_ = 0;  // added to the seed: an answer that is asked for again is another one
};

}  // namespace taipan
