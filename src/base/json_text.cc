// JSON text in, strictly, and JSON values in words.

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/error.h"
#include "base/fields.h"

namespace taipan {
namespace {

constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxQuoted = 80;  // bytes of the user's text that an error repeats

// Tells how far the parser has read, which nlohmann's callbacks do not.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, const char** furthest) : at_(at), furthest_(furthest) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    *furthest_ = ++at_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator old = *this;
    ++*this;
    return old;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }

 private:
  const char* at_;
  const char** furthest_;
};

// Where byte `end` (counted from 1) of the text is.
std::string Position(std::string_view text, size_t end) {
  const std::string_view read = text.substr(0, end);
  const size_t last = end == 0 ? end : end - 1;  // the byte itself may be a line break
  const auto lines =
      std::count(read.begin(), read.begin() + static_cast<std::ptrdiff_t>(std::min(last, read.size())), '\n');
  return fmt::format("line {}, byte {}", lines + 1, end);
}

std::string Cut(std::string text, size_t limit = kMaxQuoted) {
  if (text.size() > limit) text = text.substr(0, limit) + "...";
  return text;
}

// The user's text on one line of printable ASCII: what JSON escapes, escaped.
std::string Quote(const std::string& text) {
  return Cut(Json(text.substr(0, kMaxQuoted + 1)).dump(-1, ' ', true, Json::error_handler_t::replace));
}

// What nlohmann says of a syntax error, without its own prefix, in printable ASCII.
std::string Reason(const std::string& what) {
  size_t begin = what.find("column ");
  begin = begin == std::string::npos ? what.find("] ") : what.find(": ", begin);
  std::string reason = begin == std::string::npos ? what : what.substr(begin + 2);
  for (char& c : reason) {
    if (c < ' ' || c > '~') c = '?';
  }
  return Cut(reason, 3 * kMaxQuoted);
}

}  // namespace

Json ParseJson(std::string_view text, const std::string& where) {
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos) {  // nlohmann would stop there, content
    throw UserError(where, "not valid JSON at " + Position(text, zero + 1) + ": a zero byte");
  }
  const char* furthest = text.data();
  auto here = [&] { return Position(text, static_cast<size_t>(furthest - text.data())); };
  std::vector<std::unordered_set<std::string>> open;  // the keys of every open object; a list has none
  auto check = [&](int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start) {
      open.emplace_back();
      if (open.size() > kMaxDepth) {
        throw UserError({where, "JSON is nested too deeply at " + here(), fmt::format("at most {} levels", kMaxDepth)});
      }
    } else if (event == Json::parse_event_t::object_end || event == Json::parse_event_t::array_end) {
      open.pop_back();
    } else if (event == Json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (!open.back().insert(key).second) {
        throw UserError(where, fmt::format("key {} appears a second time at {}", Quote(key), here()));
      }
    }
    return true;
  };
  try {
    return Json::parse(CountingIterator(text.data(), &furthest), CountingIterator(text.data() + text.size(), &furthest),
                       check);
  } catch (const Json::parse_error& e) {
    throw UserError(where, "not valid JSON at " + Position(text, e.byte) + ": " + Reason(e.what()));
  } catch (const Json::exception& e) {
    throw UserError(where, "not valid JSON at " + here() + ": " + Reason(e.what()));
  }
}

std::string DescribeJson(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::string:
      return "the string " + Quote(value.get_ref<const std::string&>());
    case Json::value_t::array:
      return value.size() == 1 ? "a list of 1 value" : fmt::format("a list of {} values", value.size());
    case Json::value_t::object:
      return "an object";
    case Json::value_t::number_float:
      return "the number " + ShortestDouble(value.get<double>());
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return "the number " + value.dump();
    default:
      return value.dump();
  }
}

std::string ShortestDouble(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_not_of("-0123456789") == std::string::npos) text += ".0";
  return text;
}

}  // namespace taipan
