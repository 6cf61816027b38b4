#pragma once
// A context and its continuation as tokens, with the boundary between them where lm-evaluation-harness draws it.

#include <cstdint>
#include <string>

#include "infer/continuations.h"
#include "text/tokenizer.h"

namespace taipan {

struct PairTokens {
  Continuation tokens;
  // The context's own tokens do not open those of the whole: the tokenizer joined what stands on both sides of the
  // boundary. The continuation is what follows as many tokens nevertheless, as the harness has it.
  bool joined = false;
};

// White space that ends the context belongs to the continuation; the whole is encoded, and what follows as many tokens
// as the context alone has is the continuation. An empty context is BOS, else EOS. UserError naming `where` for what
// leaves nothing to read or to score.
PairTokens EncodePair(const Tokenizer& tokenizer, std::string_view context, std::string_view continuation,
                      const std::string& where);

// Drops the tokens furthest back until at most `context` tokens predict the last one. Returns whether any was dropped.
// UserError naming `where` and `limit` (what set it) for a continuation that is longer by itself.
bool CutFromTheLeft(Continuation& question, int64_t context, const std::string& where, const std::string& limit);

}  // namespace taipan
