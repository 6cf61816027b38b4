#include "text/jinja/json.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "text/jinja/text.h"

namespace taipan::jinja {
namespace {

class Writer {
 public:
  Writer(const JsonStyle& style, Context& context) : style_(style), context_(context) {}

  std::string Run(const Value& value) {
    Write(value, 0);
    return std::move(out_);
  }

 private:
  void Add(std::string_view text) {
    context_.Reserve(text.size());
    if (out_.size() > (size_t{1} << 26)) context_.Reserve(out_.size());
    out_ += text;
  }

  void Write(const Value& value, size_t level) {
    const Context::Deeper deeper(context_);
    if (value.is_string()) return Quote(value.text());
    if (value.is_none() || value.is_number()) return Add(Scalar(value));
    if (value.is_dict()) return WriteDict(value.dict(), level);
    if (!value.is_list() && !value.is_tuple()) {
      context_.Refuse(fmt::format("tojson: an object of type {} is not JSON serializable", TypeName(value)));
    }
    if (value.items().empty()) return Add("[]");
    Add("[");
    for (size_t i = 0; i < value.items().size(); ++i) {
      Begin(i, level + 1);
      Write(value.items()[i], level + 1);
    }
    End(level);
    Add("]");
  }

  void WriteDict(const Dict& dict, size_t level) {
    if (dict.entries.empty()) return Add("{}");
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(),
                       [&](const auto* a, const auto* b) { return Less(a->first, b->first, context_); });
    }
    Add("{");
    for (size_t i = 0; i < entries.size(); ++i) {
      Begin(i, level + 1);
      const Value& key = entries[i]->first;
      if (!key.is_string() && !key.is_none() && !key.is_number()) {
        context_.Refuse(fmt::format("tojson: keys must be strings or numbers, not {}", TypeName(key)));
      }
      Quote(key.is_string() ? key.text() : Scalar(key));
      Add(style_.colon);
      Write(entries[i]->second, level + 1);
    }
    End(level);
    Add("}");
  }

  void Begin(size_t i, size_t level) {
    if (i > 0) Add(style_.comma);
    NewLine(level);
  }
  void End(size_t level) { NewLine(level); }
  void NewLine(size_t level) {
    if (!style_.indent) return;
    Add("\n");
    for (size_t i = 0; i < level; ++i) Add(*style_.indent);
  }

  static std::string Scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (value.is_bool()) return value.integer() != 0 ? "true" : "false";
    if (value.is_integer()) return std::to_string(value.integer());
    const double d = value.number();
    if (std::isnan(d)) return "NaN";
    if (std::isinf(d)) return d < 0 ? "-Infinity" : "Infinity";
    return ReprFloat(d);
  }

  void Quote(const std::string& text) {
    std::string quoted = "\"";
    for (size_t i = 0; i < text.size();) {
      const size_t length = CharacterLength(text, i);
      const char c = text[i];
      static constexpr std::string_view kFrom = "\"\\\n\r\t\b\f", kTo = "\"\\nrtbf";
      const size_t escape = kFrom.find(c);
      if (escape != kFrom.npos) {
        quoted += {'\\', kTo[escape]};
      } else if (static_cast<uint8_t>(c) < 0x20) {
        quoted += fmt::format("\\u{:04x}", static_cast<int>(c));
      } else if (const auto code = CodePoint(text.substr(i, length)); style_.ascii && code && *code >= 0x7F) {
        quoted += Escape(*code);
      } else {
        quoted.append(text, i, length);
      }
      i += length;
    }
    Add(quoted + "\"");
  }

  static std::string Escape(uint32_t code) {
    if (code < 0x10000) return fmt::format("\\u{:04x}", code);
    code -= 0x10000;
    return fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (code >> 10), 0xDC00 + (code & 0x3FF));
  }

  const JsonStyle& style_;
  Context& context_;
  std::string out_;
};

// Builds the value while nlohmann reads, so that keys keep their order and no number changes its value in silence.
class Reader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Reader(const std::string& where) : where_(where), context_(where) {}

  bool null() override { return Put(Value()); }
  bool boolean(bool b) override { return Put(Value(b)); }
  bool number_integer(int64_t i) override { return Put(Value(i)); }
  bool number_unsigned(uint64_t u) override {
    if (u > static_cast<uint64_t>(INT64_MAX)) TooLarge(std::to_string(u));
    return Put(Value(static_cast<int64_t>(u)));
  }
  bool number_float(double d, const std::string& text) override {
    if (text.find_first_of(".eE") == text.npos) TooLarge(text);
    return Put(Value(d));
  }
  bool string(std::string& text) override { return Put(Value(text)); }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool start_object(size_t) override { return Open(true); }
  bool start_array(size_t) override { return Open(false); }
  bool key(std::string& text) override {
    open_.back().key = text;
    return true;
  }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception& e) override {
    const std::string what = e.what();
    const size_t colon = what.find(": ", std::min(what.find("column"), what.size()));
    throw UserError(where_, fmt::format("not valid JSON at byte {}: {}", position,
                                        colon != what.npos ? what.substr(colon + 2) : what));
  }

  Value Result() { return std::move(result_); }

 private:
  struct Level {
    bool is_dict;
    std::string key = {};
    std::vector<Value> items = {};
    std::shared_ptr<Dict> dict = std::make_shared<Dict>();
  };

  [[noreturn]] void TooLarge(const std::string& found) const {
    throw UserError({where_, "a whole number is too large", "at most 64 bits with the sign", found});
  }

  bool Open(bool is_dict) {
    if (open_.size() >= 64) throw UserError({where_, "JSON is nested too deeply", "at most 64 levels"});
    open_.push_back({is_dict});
    return true;
  }

  bool Close() {
    Level level = std::move(open_.back());
    open_.pop_back();
    if (level.is_dict) return Put(Value(DictPtr(std::move(level.dict))));
    auto list = std::make_shared<Sequence>();
    for (const Value& item : level.items) list->depth = std::max(list->depth, 1 + item.depth());
    list->items = std::move(level.items);
    return Put(Value(SequencePtr(std::move(list))));
  }

  bool Put(Value value) {
    if (open_.empty()) {
      result_ = std::move(value);
    } else if (Level& level = open_.back(); level.is_dict) {
      level.dict->Set("s" + level.key, Value(level.key), std::move(value));
    } else {
      level.items.push_back(std::move(value));
    }
    return true;
  }

  const std::string& where_;
  Context context_;
  std::vector<Level> open_;
  Value result_;
};

}  // namespace

std::string WriteJson(const Value& value, const JsonStyle& style, Context& context) {
  return Writer(style, context).Run(value);
}

Value ParseValue(std::string_view json, const std::string& where) {
  Reader reader(where);
  nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
  return reader.Result();
}

}  // namespace taipan::jinja
