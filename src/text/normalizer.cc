#include "text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "text/unicode/regex.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

class FormNormalizer : public Normalizer {
 public:
  explicit FormNormalizer(UnicodeForm form) : form_(form) {}
  std::string_view Apply(std::string_view text, std::string& buffer) const override {
    return NormalizeUnicode(text, form_, buffer);
  }
  bool AllowsCuts() const override { return true; }  // a space keeps apart what stands around it

 private:
  UnicodeForm form_;
};

// Capitals of Unicode 16 and 17, which Rust's own tables have, and the way from each to its small letter.
constexpr struct {
  uint32_t first, last;
  int32_t step;
} kNewerCapitals[] = {{0x1C89, 0x1C89, 1},      {0xA7CB, 0xA7CB, 0x264 - 0xA7CB},
                      {0xA7CC, 0xA7CC, 1},      {0xA7CE, 0xA7CE, 1},
                      {0xA7D2, 0xA7D2, 1},      {0xA7D4, 0xA7D4, 1},
                      {0xA7DA, 0xA7DA, 1},      {0xA7DC, 0xA7DC, 0x19B - 0xA7DC},
                      {0x10D50, 0x10D65, 0x20}, {0x16EA0, 0x16EB8, 0x1B}};

uint32_t LowerCase(uint32_t c) {
  for (const auto& range : kNewerCapitals) {
    if (c >= range.first && c <= range.last) return static_cast<uint32_t>(static_cast<int32_t>(c) + range.step);
  }
  return static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}

class Lowercase : public Normalizer {
 public:
  std::string_view Apply(std::string_view text, std::string& buffer) const override {
    buffer.clear();
    for (size_t i = 0, size = 0; i < text.size(); i += size) {
      size = Utf8CharacterSize(text.substr(i));
      CHECK_GT(size, 0u);
      const uint32_t c = DecodeUtf8(text.substr(i, size));
      if (c == 0x130) {
        buffer += "i\u0307";  // the one character whose lower case is two
      } else {
        buffer += EncodeUtf8(LowerCase(c));
      }
    }
    return buffer;
  }
  bool AllowsCuts() const override { return true; }
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  std::string_view Apply(std::string_view text, std::string& buffer) const override {
    if (text.empty()) return text;
    buffer = prefix_;
    buffer += text;
    return buffer;
  }
  std::string_view ApplyBehindCut(std::string_view text, std::string&) const override { return text; }
  bool AllowsCuts() const override { return true; }

 private:
  std::string prefix_;
};

class Replace : public Normalizer {
 public:
  Replace(Regex pattern, std::string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}
  std::string_view Apply(std::string_view text, std::string& buffer) const override {
    buffer.clear();
    Regex::Search search(pattern_, text);
    size_t done = 0, begin = 0, end = 0;
    while (search.Next(&begin, &end)) {
      buffer += text.substr(done, begin - done);
      buffer += content_;
      done = end;
    }
    buffer += text.substr(done);
    return buffer;
  }
  bool AllowsCuts() const override { return false; }  // a pattern may do anything

 private:
  Regex pattern_;
  std::string content_;
};

class ReplaceText : public Normalizer {
 public:
  ReplaceText(std::string pattern, std::string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}
  std::string_view Apply(std::string_view text, std::string& buffer) const override {
    buffer.clear();
    size_t done = 0;
    for (size_t at; !pattern_.empty() && (at = text.find(pattern_, done)) != text.npos;) {
      buffer += text.substr(done, at - done);
      buffer += content_;
      done = at + pattern_.size();
    }
    buffer += text.substr(done);
    return buffer;
  }
  // No match reaches across the cut or changes what stands beside it into another kind.
  bool AllowsCuts() const override {
    const auto has_space = [](std::string_view s) { return s.find(' ') != s.npos || s.find("\u2581") != s.npos; };
    if (pattern_ == " ") return content_ == "\u2581";
    return !has_space(pattern_) && !has_space(content_) && !content_.empty() && TrailingSpaces(content_) == 0;
  }

 private:
  std::string pattern_, content_;
};

class Strip : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  std::string_view Apply(std::string_view text, std::string&) const override {
    if (left_) text.remove_prefix(LeadingSpaces(text));
    if (right_) text.remove_suffix(TrailingSpaces(text));
    return text;
  }
  std::string_view ApplyBehindCut(std::string_view text, std::string&) const override {
    if (right_) text.remove_suffix(TrailingSpaces(text));
    return text;
  }
  bool AllowsCuts() const override { return true; }

 private:
  bool left_, right_;
};

class Sequence : public Normalizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<Normalizer>> steps) : steps_(std::move(steps)) {}
  std::string_view Apply(std::string_view text, std::string& buffer) const override {
    return Run(text, buffer, &Normalizer::Apply);
  }
  std::string_view ApplyBehindCut(std::string_view text, std::string& buffer) const override {
    return Run(text, buffer, &Normalizer::ApplyBehindCut);
  }
  bool AllowsCuts() const override {
    return std::all_of(steps_.begin(), steps_.end(), [](const auto& step) { return step->AllowsCuts(); });
  }

 private:
  std::string_view Run(std::string_view text, std::string& buffer,
                       std::string_view (Normalizer::*apply)(std::string_view, std::string&) const) const {
    std::string other;  // a step reads from one buffer while it writes the other
    for (const auto& step : steps_) {
      text = (step.get()->*apply)(text, other);
      if (text.data() >= other.data() && text.data() <= other.data() + other.size()) {
        const size_t offset = static_cast<size_t>(text.data() - other.data());
        buffer.swap(other);
        text = std::string_view(buffer).substr(offset, text.size());
      }
    }
    return text;
  }

  std::vector<std::unique_ptr<Normalizer>> steps_;
};

std::unique_ptr<Normalizer> ReadReplace(const JsonPart& part) {
  part.RequireKeys({"type", "pattern", "content"});
  const JsonPart pattern = part.Member("pattern");
  const std::string content = part.String("content");
  if (pattern.Has("String")) return std::make_unique<ReplaceText>(pattern.String("String"), content);
  if (!pattern.Has("Regex")) pattern.Refuse("wrong pattern", "{\"String\": ...} or {\"Regex\": ...}");
  return std::make_unique<Replace>(Regex::FromOniguruma(pattern.String("Regex"), pattern.where()), content);
}

std::unique_ptr<Normalizer> ReadSequence(const JsonPart& part) {
  part.RequireKeys({"type", "normalizers"});
  const JsonPart list = part.Member("normalizers");
  std::vector<std::unique_ptr<Normalizer>> steps;
  for (size_t i = 0; i < list.ListSize(); ++i) steps.push_back(ReadNormalizer(list.Item(i)));
  return std::make_unique<Sequence>(std::move(steps));
}

}  // namespace

std::unique_ptr<Normalizer> ReadNormalizer(const JsonPart& part) {
  const std::string type = part.String("type");
  const auto form = [&](UnicodeForm f) {
    part.RequireKeys({"type"});
    return std::make_unique<FormNormalizer>(f);
  };
  if (type == "NFC") return form(UnicodeForm::kNfc);
  if (type == "NFD") return form(UnicodeForm::kNfd);
  if (type == "NFKC") return form(UnicodeForm::kNfkc);
  if (type == "NFKD") return form(UnicodeForm::kNfkd);
  if (type == "Replace") return ReadReplace(part);
  if (type == "Sequence") return ReadSequence(part);
  if (type == "Lowercase") {
    part.RequireKeys({"type"});
    return std::make_unique<Lowercase>();
  }
  if (type == "Prepend") {
    part.RequireKeys({"type", "prepend"});
    return std::make_unique<Prepend>(part.String("prepend"));
  }
  if (type == "Strip") {
    part.RequireKeys({"type", "strip_left", "strip_right"});
    return std::make_unique<Strip>(part.Bool("strip_left"), part.Bool("strip_right"));
  }
  part.Member("type").Refuse("this normalizer is not supported",
                             "NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip or Sequence");
}

}  // namespace taipan
