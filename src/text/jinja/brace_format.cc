// str.format.

#include <charconv>

#include "base/error.h"
#include "text/jinja/methods.h"

namespace taipan::jinja {
namespace {

class Braces {
 public:
  explicit Braces(const Call& call) : call_(call), context_(call.context) {}

  std::string Run(std::string_view format, int nesting = 0) {
    if (nesting > 2) call_.Refuse("a format is nested too deeply");
    std::string out;
    for (size_t i = 0; i < format.size(); ++i) {
      const char c = format[i];
      const bool doubled = i + 1 < format.size() && format[i + 1] == c;
      if ((c == '{' || c == '}') && doubled) {
        out += c;
        ++i;
      } else if (c == '}') {
        call_.Refuse("a single } in a format");
      } else if (c == '{') {
        const size_t end = End(format, i);
        out += Field(format.substr(i + 1, end - i - 1), nesting);
        i = end;
      } else {
        out += c;
      }
      context_.Spend(8);
    }
    context_.Reserve(out.size());
    return out;
  }

 private:
  size_t End(std::string_view format, size_t begin) {
    int open = 0;
    for (size_t i = begin; i < format.size(); ++i) {
      open += format[i] == '{';
      open -= format[i] == '}';
      if (open == 0) return i;
    }
    call_.Refuse("a { in a format has no end");
  }

  std::string Field(std::string_view field, int nesting) {
    const size_t name_end = std::min(field.find_first_of("!:"), field.size());
    Value value = Named(field.substr(0, name_end));
    field.remove_prefix(name_end);
    if (field.starts_with('!')) {
      const char conversion = field.size() > 1 ? field[1] : '\0';
      if (conversion != 'r' && conversion != 's') call_.Refuse("an unknown conversion", "!r or !s", std::string(field));
      value = Value(conversion == 'r' ? Repr(value, context_) : Str(value, context_));
      field.remove_prefix(2);
    }
    if (!field.empty() && field[0] != ':') call_.Refuse("a format is broken", "", std::string(field));
    if (!field.empty()) field.remove_prefix(1);
    const std::string spec = Run(field, nesting + 1);
    if (value.is_undefined() && spec.empty()) return Str(value, context_);
    return FormatValue(value, spec, context_);
  }

  Value Named(std::string_view path) {
    const size_t end = std::min(path.find_first_of(".["), path.size());
    Value value = First(path.substr(0, end));
    path.remove_prefix(end);
    while (!path.empty()) {
      const bool item = path[0] == '[';
      path.remove_prefix(1);
      const size_t stop = std::min(item ? path.find(']') : path.find_first_of(".["), path.size());
      const std::string name(path.substr(0, stop));
      path.remove_prefix(std::min(path.size(), stop + (item ? 1 : 0)));
      int64_t number = 0;
      const bool digits =
          std::from_chars(name.data(), name.data() + name.size(), number).ptr == name.data() + name.size();
      value = item ? Item(value, digits && !name.empty() ? Value(number) : Value(name), context_)
                   : Attribute(value, name, context_);
    }
    return value;
  }

  Value First(std::string_view name) {
    size_t index = 0;
    const bool digits = std::from_chars(name.data(), name.data() + name.size(), index).ptr == name.data() + name.size();
    if (name.empty() || digits) {
      if (name.empty()) index = next_++;
      if (index >= call_.positional.size()) call_.Refuse("a format wants more arguments", "", std::string(name));
      return call_.positional[index];
    }
    for (const auto& [key, value] : call_.named) {
      if (key == name) return value;
    }
    call_.Refuse("a format names an argument that is not there", "", std::string(name));
  }

  const Call& call_;
  Context& context_;
  size_t next_ = 0;
};

}  // namespace

std::string BraceFormat(const std::string& format, const Call& call) { return Braces(call).Run(format); }

}  // namespace taipan::jinja
