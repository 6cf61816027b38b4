#include "text/pre_tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "text/unicode/byte_alphabet.h"
#include "text/unicode/newer_characters.h"
#include "text/unicode/utf8.h"
#include "text/unicode/word_pattern.h"

namespace taipan {
namespace {

// What Hugging Face's Punctuation takes for it, by tables of Unicode 8: also ASCII's symbols.
constexpr const char* kPunctuation =
    R"((?![\x{61D}\x{9FD}\x{A76}\x{C77}\x{C84}\x{1B7D}\x{1B7E}\x{2E43}-\x{2E4F}\x{2E52}-\x{2E5D}\x{10EAD}\x{10F55}-\x{10F59})"
    R"(\x{10F86}-\x{10F89}\x{1144B}-\x{1144F}\x{1145A}\x{1145B}\x{1145D}\x{11660}-\x{1166C}\x{116B9}\x{1183B})"
    R"(\x{11944}-\x{11946}\x{119E2}\x{11A3F}-\x{11A46}\x{11A9A}-\x{11A9C}\x{11A9E}-\x{11AA2}\x{11C41}-\x{11C45}\x{11C70})"
    R"(\x{11C71}\x{11EF7}\x{11EF8}\x{11FFF}\x{12FF1}\x{12FF2}\x{16E97}-\x{16E9A}\x{16FE2}\x{1E95E}\x{1E95F}]))"
    R"([\p{P}\x{166D}\x{111C9}$+<=>^`|~])";

// Numbers of Unicode 17, which Rust's own tables have.
constexpr const char* kRustsNumbers = R"(\x{11DE0}-\x{11DE9}\x{16FF4}-\x{16FF6})";

enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

Behavior ReadBehavior(const JsonPart& part) {
  const std::string name = part.String();
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  part.Refuse("unknown behavior", "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

// Cuts where a pattern matches; what becomes of the matches is the behavior.
class SplitStep : public PreTokenizerStep {
 public:
  SplitStep(WordPattern pattern, Behavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  void Split(const Piece& piece, const PieceSink& sink) const override {
    if (behavior_ != Behavior::kRemoved && behavior_ != Behavior::kIsolated) {
      SplitMerged(piece, sink);
      return;
    }
    pattern_.ForEach(piece.text, [&](size_t begin, size_t end, bool match) {
      const bool removed = behavior_ == Behavior::kRemoved && match != invert_;
      if (begin < end && !removed) sink({piece.text.substr(begin, end - begin), piece.first && begin == 0});
    });
  }

  bool AllowsCut(std::string_view text, size_t at, const CutCheck& inside) const override {
    const WordPattern::Cut cut = pattern_.CutAt(text, at);
    const bool merges = behavior_ != Behavior::kRemoved && behavior_ != Behavior::kIsolated;
    if (!cut.safe) return false;
    if (cut.begin == cut.end) return !merges;
    // What lies between two matches may be joined by the one behind it; one before it would move its beginning.
    const bool moves =
        behavior_ == Behavior::kMergedWithNext || (behavior_ == Behavior::kMergedWithPrevious && invert_);
    if (moves && cut.begin > 0) return false;
    return inside(text.substr(cut.begin, cut.end - cut.begin), at - cut.begin);
  }

 private:
  struct Part {
    size_t begin, end;
    bool match;
  };

  // Whether `match` joins the part before it (which was a match or not).
  bool Joins(bool match, bool match_before) const {
    return behavior_ == Behavior::kContiguous ? match == match_before : match && !match_before;
  }

  void SplitMerged(const Piece& piece, const PieceSink& sink) const {
    std::vector<Part> parts;
    pattern_.ForEach(piece.text, [&](size_t begin, size_t end, bool match) {
      parts.push_back({begin, end, match != invert_});
    });
    const bool backwards = behavior_ == Behavior::kMergedWithNext;
    if (backwards) std::reverse(parts.begin(), parts.end());
    std::vector<Part> merged;
    bool before = false;
    for (const Part& part : parts) {
      if (!merged.empty() && Joins(part.match, before)) {
        merged.back().begin = std::min(merged.back().begin, part.begin);
        merged.back().end = std::max(merged.back().end, part.end);
      } else {
        merged.push_back(part);
      }
      before = part.match;
    }
    if (backwards) std::reverse(merged.begin(), merged.end());
    for (const Part& part : merged) {
      if (part.begin < part.end) {
        sink({piece.text.substr(part.begin, part.end - part.begin), piece.first && part.begin == 0});
      }
    }
  }

  WordPattern pattern_;
  Behavior behavior_;
  bool invert_;
};

// The space before a text that does not begin with one, then perhaps GPT-2's words.
class ByteLevelStep : public PreTokenizerStep {
 public:
  ByteLevelStep(bool add_prefix_space, bool use_regex, const std::string& where) : add_prefix_space_(add_prefix_space) {
    if (use_regex) words_ = std::make_unique<WordPattern>(kGpt2Pattern, where);
  }

  void Split(const Piece& piece, const PieceSink& sink) const override {
    if (add_prefix_space_ && !piece.text.starts_with(' ')) {
      std::string text = " ";
      text += piece.text;
      SplitWords({text, piece.first}, sink);
    } else {
      SplitWords(piece, sink);
    }
  }
  bool AllowsCut(std::string_view text, size_t at, const CutCheck& inside) const override {
    if (words_ != nullptr) return words_->CutAt(text, at).safe;
    const bool prefix = add_prefix_space_ && !text.starts_with(' ');
    if (add_prefix_space_ && text[at] != ' ') return false;
    return prefix ? inside(fmt::format(" {}", text), at + 1) : inside(text, at);
  }

 private:
  void SplitWords(const Piece& piece, const PieceSink& sink) const {
    if (words_ == nullptr) {
      sink(piece);
      return;
    }
    words_->ForEach(piece.text, [&](size_t begin, size_t end, bool) {
      sink({piece.text.substr(begin, end - begin), piece.first && begin == 0});
    });
  }

  bool add_prefix_space_;
  std::unique_ptr<WordPattern> words_;
};

class MetaspaceStep : public PreTokenizerStep {
 public:
  enum class Prepend { kNever, kFirst, kAlways };
  MetaspaceStep(std::string replacement, Prepend prepend, bool split)
      : replacement_(std::move(replacement)), prepend_(prepend), split_(split) {}

  void Split(const Piece& piece, const PieceSink& sink) const override {
    std::string text = Replaced(piece.text);
    const bool wanted = prepend_ == Prepend::kAlways || (prepend_ == Prepend::kFirst && piece.first);
    if (wanted && !text.starts_with(replacement_)) text.insert(0, replacement_);
    const std::string_view all = text;
    for (size_t begin = 0; begin < all.size();) {
      size_t end = split_ ? all.find(replacement_, begin + replacement_.size()) : all.npos;
      if (split_ && !all.substr(begin).starts_with(replacement_)) end = all.find(replacement_, begin);
      end = std::min(end, all.size());
      sink({all.substr(begin, end - begin), piece.first && begin == 0});
      begin = end;
    }
  }
  bool AllowsCut(std::string_view text, size_t at, const CutCheck& inside) const override {
    const std::string all = Replaced(text);
    const size_t cut = Replaced(text.substr(0, at)).size();
    return all.compare(cut, replacement_.size(), replacement_) == 0 && (split_ || inside(all, cut));
  }

 private:
  std::string Replaced(std::string_view from) const {
    std::string text;
    for (const char c : from) {
      if (c == ' ') {
        text += replacement_;
      } else {
        text += c;
      }
    }
    return text;
  }

  std::string replacement_;
  Prepend prepend_;
  bool split_;
};

using Step = std::unique_ptr<PreTokenizerStep>;

Step FixedSplit(const std::string& pcre2_pattern, Behavior behavior, bool invert, const std::string& where) {
  return std::make_unique<SplitStep>(WordPattern(Regex(pcre2_pattern, where)), behavior, invert);
}

// The text itself as a pattern.
std::string Literal(const std::string& text) {
  std::string pattern;
  for (const char c : text) {
    const auto b = static_cast<uint8_t>(c);
    const bool plain = b >= 0x80 || (b >= '0' && b <= '9') || (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z');
    pattern += plain ? std::string(1, c) : fmt::format("\\x{{{:02X}}}", b);
  }
  return pattern;
}

Step ReadSplit(const JsonPart& part) {
  part.RequireKeys({"type", "pattern", "behavior", "invert"});
  const JsonPart pattern = part.Member("pattern");
  const Behavior behavior = ReadBehavior(part.Member("behavior"));
  const bool invert = part.Bool("invert");
  if (pattern.Has("String")) return FixedSplit(Literal(pattern.String("String")), behavior, invert, pattern.where());
  if (!pattern.Has("Regex")) pattern.Refuse("wrong pattern", "{\"String\": ...} or {\"Regex\": ...}");
  return std::make_unique<SplitStep>(WordPattern(pattern.String("Regex"), pattern.where()), behavior, invert);
}

Step ReadMetaspace(const JsonPart& part) {
  part.RequireKeys({"type", "replacement", "str_rep", "add_prefix_space", "prepend_scheme", "split"});
  const std::string replacement = part.String("replacement");
  if (replacement.empty() || Utf8CharacterSize(replacement) != replacement.size()) {
    part.Member("replacement").Refuse("wrong replacement", "one character");
  }
  auto prepend = MetaspaceStep::Prepend::kAlways;
  if (part.Has("prepend_scheme")) {
    const std::string scheme = part.String("prepend_scheme");
    if (scheme != "always" && scheme != "first" && scheme != "never") {
      part.Member("prepend_scheme").Refuse("unknown scheme", "always, first or never");
    }
    if (scheme == "first") prepend = MetaspaceStep::Prepend::kFirst;
    if (scheme == "never") prepend = MetaspaceStep::Prepend::kNever;
  }
  if (!part.Bool("add_prefix_space", true)) prepend = MetaspaceStep::Prepend::kNever;
  return std::make_unique<MetaspaceStep>(replacement, prepend, part.Bool("split", true));
}

Step ReadSimple(const JsonPart& part, const std::string& type) {
  const std::string& where = part.where();
  if (type == "Digits") {
    part.RequireKeys({"type", "individual_digits"});
    const bool each = part.Bool("individual_digits");
    return FixedSplit(fmt::format("[{}{}]", PropertyClass("N"), kRustsNumbers),
                      each ? Behavior::kIsolated : Behavior::kContiguous, false, where);
  }
  if (type == "Punctuation") {
    part.RequireKeys({"type", "behavior"});
    const Behavior behavior = part.Has("behavior") ? ReadBehavior(part.Member("behavior")) : Behavior::kIsolated;
    return FixedSplit(fmt::format("(?![{}]){}", NewerMembers("P"), kPunctuation), behavior, false, where);
  }
  if (type == "Whitespace") {
    part.RequireKeys({"type"});
    const std::string pattern = fmt::format("[{0}]+|[^{0}{1}]+", RustWordClass(), kSpaceClass);
    return FixedSplit(pattern, Behavior::kRemoved, true, where);
  }
  if (type == "WhitespaceSplit") {
    part.RequireKeys({"type"});
    return FixedSplit(fmt::format("[{}]", kSpaceClass), Behavior::kRemoved, false, where);
  }
  if (type == "CharDelimiterSplit") {
    part.RequireKeys({"type", "delimiter"});
    return FixedSplit(Literal(part.String("delimiter")), Behavior::kRemoved, false, where);
  }
  part.Member("type").Refuse("this pre-tokenizer is not supported",
                             "ByteLevel, CharDelimiterSplit, Digits, Metaspace, Punctuation, Sequence, Split, "
                             "Whitespace or WhitespaceSplit");
}

}  // namespace

PreTokenizer::PreTokenizer(const JsonPart& part) {
  Read(part);
  if (spell_at_ == steps_.size()) spell_at_ = SIZE_MAX;  // nothing reads the spelling
}

void PreTokenizer::Read(const JsonPart& part) {
  const std::string type = part.String("type");
  if (type == "Sequence") {
    part.RequireKeys({"type", "pretokenizers"});
    const JsonPart list = part.Member("pretokenizers");
    for (size_t i = 0; i < list.ListSize(); ++i) Read(list.Item(i));
  } else if (type == "ByteLevel") {
    part.RequireKeys({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    if (byte_level_) part.Refuse("a second ByteLevel", "one at most");
    const bool add_prefix_space = part.Bool("add_prefix_space"), use_regex = part.Bool("use_regex", true);
    if (add_prefix_space || use_regex) {
      steps_.push_back(std::make_unique<ByteLevelStep>(add_prefix_space, use_regex, part.where()));
    }
    byte_level_ = true;
    spell_at_ = steps_.size();
  } else if (type == "Split") {
    steps_.push_back(ReadSplit(part));
  } else if (type == "Metaspace") {
    if (byte_level_) part.Refuse("Metaspace behind ByteLevel is not supported", "Metaspace before it");
    steps_.push_back(ReadMetaspace(part));
  } else {
    steps_.push_back(ReadSimple(part, type));
  }
}

void PreTokenizer::Split(const Piece& text, const PieceSink& sink) const {
  if (spell_at_ == SIZE_MAX) {
    Run(0, steps_.size(), text, sink);
    return;
  }
  const PieceSink unspell = [&](const Piece& p) {
    const std::optional<std::string> bytes = UnspellBytes(p.text);
    CHECK(bytes.has_value());
    sink({*bytes, p.first});
  };
  Run(0, spell_at_, text, [&](const Piece& p) {
    Run(spell_at_, steps_.size(), {SpellBytes(p.text), p.first}, unspell);
  });
}

bool PreTokenizer::AllowsCut(std::string_view text, size_t at, const CutCheck& inside) const {
  return AllowsCutFrom(0, text, at, inside);
}

bool PreTokenizer::AllowsCutFrom(size_t step, std::string_view text, size_t at, const CutCheck& inside) const {
  if (step == spell_at_) return false;
  if (step == steps_.size()) return inside(text, at);
  return steps_[step]->AllowsCut(
      text, at, [&](std::string_view part, size_t in_part) { return AllowsCutFrom(step + 1, part, in_part, inside); });
}

void PreTokenizer::Run(size_t begin, size_t end, const Piece& piece, const PieceSink& sink) const {
  if (begin == end) {
    sink(piece);
  } else if (begin + 1 == end) {
    steps_[begin]->Split(piece, sink);
  } else {
    steps_[begin]->Split(piece, [&](const Piece& p) { Run(begin + 1, end, p, sink); });
  }
}

}  // namespace taipan
