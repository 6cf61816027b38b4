#include "text/decoder.h"

#include <algorithm>

#include "base/error.h"
#include "text/unicode/byte_alphabet.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

void ReplaceAll(std::string& text, std::string_view from, std::string_view to) {
  std::string out;
  size_t done = 0;
  for (size_t at; (at = text.find(from, done)) != text.npos; done = at + from.size()) {
    out.append(text, done, at - done);
    out += to;
  }
  out.append(text, done);
  text = std::move(out);
}

// The byte that "<0x0A>" names, -1 for another text.
int NamedByte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int byte = 0;
  for (const char c : token.substr(3, 2)) {
    const bool digit = c >= '0' && c <= '9', upper = c >= 'A' && c <= 'F', lower = c >= 'a' && c <= 'f';
    if (!digit && !upper && !lower) return -1;
    byte = byte * 16 + (digit ? c - '0' : (upper ? c - 'A' : c - 'a') + 10);
  }
  return byte;
}

void StripToken(std::string& text, std::string_view character, size_t start, size_t stop) {
  size_t begin = 0, end = text.size();
  for (; start > 0 && text.compare(begin, character.size(), character) == 0; --start) begin += character.size();
  for (; stop > 0 && end >= begin + character.size(); --stop) {
    if (text.compare(end - character.size(), character.size(), character) != 0) break;
    end -= character.size();
  }
  text = text.substr(begin, end - begin);
}

}  // namespace

Decoder::Decoder(const JsonPart& part) {
  if (part.value().is_null()) {
    joins_with_space_ = true;
  } else {
    Read(part);
  }
  for (const Step& step : token_steps_) first_differs_ = first_differs_ || step.drops_first;
}

void Decoder::Read(const JsonPart& part) {
  const std::string type = part.String("type");
  if (type == "Sequence") {
    part.RequireKeys({"type", "decoders"});
    const JsonPart list = part.Member("decoders");
    for (size_t i = 0; i < list.ListSize(); ++i) Read(list.Item(i));
    return;
  }
  if (type == "Fuse") {
    part.RequireKeys({"type"});
    fused_ = true;
    return;
  }
  Step step = ReadStep(part, type);
  if (fused_ && step.kind != Kind::kReplace && step.kind != Kind::kStrip) {
    part.Refuse("this decoder is not supported where the tokens are joined already (Fuse, ByteLevel)",
                "Replace or Strip");
  }
  if (step.kind == Kind::kByteLevel) fused_ = true;
  (fused_ && step.kind != Kind::kByteLevel ? text_steps_ : token_steps_).push_back(std::move(step));
}

Decoder::Step Decoder::ReadStep(const JsonPart& part, const std::string& type) {
  const auto character = [&](const char* name) {
    const std::string text = part.String(name);
    if (text.empty() || Utf8CharacterSize(text) != text.size())
      part.Member(name).Refuse("wrong value", "one character");
    return text;
  };
  if (type == "ByteLevel") {
    part.RequireKeys({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    return {.kind = Kind::kByteLevel};
  }
  if (type == "ByteFallback") {
    part.RequireKeys({"type"});
    return {.kind = Kind::kByteFallback};
  }
  if (type == "Metaspace") {
    part.RequireKeys({"type", "replacement", "str_rep", "add_prefix_space", "prepend_scheme", "split"});
    const bool never = !part.Bool("add_prefix_space", true) ||
                       (part.Has("prepend_scheme") && part.String("prepend_scheme") == "never");
    return {.kind = Kind::kMetaspace, .from = character("replacement"), .drops_first = !never};
  }
  if (type == "Replace") {
    part.RequireKeys({"type", "pattern", "content"});
    const JsonPart pattern = part.Member("pattern");
    if (!pattern.Has("String") || pattern.String("String").empty()) {
      pattern.Refuse("only a fixed text can be replaced when decoding", "{\"String\": ...}");
    }
    return {.kind = Kind::kReplace, .from = pattern.String("String"), .to = part.String("content")};
  }
  if (type == "Strip") {
    part.RequireKeys({"type", "content", "start", "stop"});
    return {.kind = Kind::kStrip,
            .from = character("content"),
            .start = static_cast<size_t>(part.Member("start").Integer()),
            .stop = static_cast<size_t>(part.Member("stop").Integer())};
  }
  part.Member("type").Refuse("this decoder is not supported",
                             "ByteFallback, ByteLevel, Fuse, Metaspace, Replace, Sequence or Strip");
}

std::string Decoder::TokenBytes(std::string_view spelling, bool first) const {
  std::string text(spelling);
  for (const Step& step : token_steps_) {
    switch (step.kind) {
      case Kind::kByteLevel:
        text = UnspellBytes(text).value_or(text);  // an added token may be spelled otherwise
        break;
      case Kind::kByteFallback:
        if (const int byte = NamedByte(text); byte >= 0) text = static_cast<char>(byte);
        break;
      case Kind::kMetaspace:
        ReplaceAll(text, step.from, first && step.drops_first ? "" : " ");
        break;
      case Kind::kReplace:
        ReplaceAll(text, step.from, step.to);
        break;
      case Kind::kStrip:
        StripToken(text, step.from, step.start, step.stop);
    }
  }
  return text;
}

Decoder::Stream::Stream(const Decoder& decoder) : decoder_(decoder), stages_(decoder.text_steps_.size()) {}

void Decoder::Stream::Append(std::string_view token, std::string& out) {
  if (decoder_.joins_with_space_ && any_) Feed(0, " ", out);
  any_ = true;
  Feed(0, token, out);
}

void Decoder::Stream::Feed(size_t stage, std::string_view text, std::string& out) {
  if (stage == stages_.size()) {
    out += text;
  } else if (decoder_.text_steps_[stage].kind == Kind::kStrip) {
    FeedStrip(stage, text, out);
  } else {
    FeedReplace(stage, text, out);
  }
}

void Decoder::Stream::FeedStrip(size_t stage, std::string_view text, std::string& out) {
  const Step& step = decoder_.text_steps_[stage];
  Stage& state = stages_[stage];
  std::string all = std::move(state.held) + std::string(text);
  state.held.clear();
  const std::string_view c = step.from;
  size_t begin = 0;
  while (!state.started && begin < all.size()) {
    const std::string_view rest = std::string_view(all).substr(begin);
    if (state.stripped < step.start && rest.starts_with(c)) {
      begin += c.size();
      ++state.stripped;
    } else if (state.stripped < step.start && c.starts_with(rest)) {
      state.held = rest;  // the first bytes of the character
      return;
    } else {
      state.started = true;
    }
  }
  // As many characters as may go are held back, and part of one.
  size_t keep = all.size(), held = 0;
  if (step.stop > 0) {
    for (size_t part = std::min(c.size() - 1, all.size() - begin); part > 0; --part) {
      if (!c.starts_with(std::string_view(all).substr(all.size() - part))) continue;
      keep -= part;
      break;
    }
    while (held < step.stop && keep >= begin + c.size() && all.compare(keep - c.size(), c.size(), c) == 0) {
      keep -= c.size();
      ++held;
    }
  }
  state.held = all.substr(keep);
  Feed(stage + 1, std::string_view(all).substr(begin, keep - begin), out);
}

void Decoder::Stream::FeedReplace(size_t stage, std::string_view text, std::string& out) {
  const Step& step = decoder_.text_steps_[stage];
  Stage& state = stages_[stage];
  const std::string all = std::move(state.held) + std::string(text);
  state.held.clear();
  std::string replaced;
  size_t done = 0;
  for (size_t at; (at = all.find(step.from, done)) != all.npos; done = at + step.from.size()) {
    replaced.append(all, done, at - done);
    replaced += step.to;
  }
  size_t part = std::min(step.from.size() - 1, all.size() - done);
  while (part > 0 && step.from.compare(0, part, all, all.size() - part, part) != 0) --part;
  replaced.append(all, done, all.size() - part - done);
  state.held = all.substr(all.size() - part);
  Feed(stage + 1, replaced, out);
}

void Decoder::Stream::Flush(std::string& out) {
  for (size_t stage = 0; stage < stages_.size(); ++stage) {
    const Step& step = decoder_.text_steps_[stage];
    std::string held = std::move(stages_[stage].held);
    if (step.kind == Kind::kStrip) StripToken(held, step.from, 0, step.stop);
    Feed(stage + 1, held, out);
  }
  stages_.assign(stages_.size(), Stage());
  any_ = false;
}

}  // namespace taipan
