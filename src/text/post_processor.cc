#include "text/post_processor.h"

#include "base/error.h"

namespace taipan {
namespace {

constexpr size_t kMaxTokens = 1024;  // around one text

// The ids of a special token that the template names.
void AppendIds(const JsonPart& part, const std::string& name, int64_t vocab_size, std::vector<int32_t>& ids) {
  const JsonPart tokens = part.Member("special_tokens");
  if (!tokens.Has(name.c_str())) {
    throw UserError(
        {.where = tokens.where(), .problem = "the template names an unknown token", .found = DescribeJson(Json(name))});
  }
  const JsonPart list = tokens.Member(name.c_str()).Member("ids");
  for (size_t i = 0; i < list.ListSize(); ++i) {
    ids.push_back(static_cast<int32_t>(list.Item(i).Integer(0, vocab_size - 1)));
    if (ids.size() > kMaxTokens) list.Refuse("too many tokens around a text", fmt::format("at most {}", kMaxTokens));
  }
}

void ReadTemplate(const JsonPart& part, int64_t vocab_size, PostProcessor& out) {
  part.RequireKeys({"type", "single", "pair", "special_tokens"});
  const JsonPart list = part.Member("single");
  PostProcessor own;
  bool seen_text = false;
  for (size_t i = 0; i < list.ListSize(); ++i) {
    const JsonPart item = list.Item(i);
    if (item.Has("Sequence")) {
      if (seen_text || item.Member("Sequence").String("id") != "A") item.Refuse("wrong template", "the text A once");
      seen_text = true;
    } else {
      AppendIds(part, item.Member("SpecialToken").String("id"), vocab_size, seen_text ? own.after : own.before);
    }
  }
  if (!seen_text) list.Refuse("the template lacks the text", "the text A once");
  out.before.insert(out.before.begin(), own.before.begin(), own.before.end());
  out.after.insert(out.after.end(), own.after.begin(), own.after.end());
}

void Read(const JsonPart& part, int64_t vocab_size, PostProcessor& out) {
  const std::string type = part.String("type");
  if (type == "Sequence") {
    part.RequireKeys({"type", "processors"});
    const JsonPart list = part.Member("processors");
    for (size_t i = 0; i < list.ListSize(); ++i) Read(list.Item(i), vocab_size, out);
  } else if (type == "TemplateProcessing") {
    ReadTemplate(part, vocab_size, out);
  } else if (type == "ByteLevel") {
    part.RequireKeys({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  } else {
    part.Member("type").Refuse("this post-processor is not supported", "ByteLevel, Sequence or TemplateProcessing");
  }
}

}  // namespace

PostProcessor ReadPostProcessor(const JsonPart& part, int64_t vocab_size) {
  PostProcessor out;
  Read(part, vocab_size, out);
  return out;
}

}  // namespace taipan
