// Damaged tokenizer.json files: each is read, and then encodes and decodes whatever it is given, or is refused with a
// UserError of one line.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/test_fuzz.h"
#include "text/tokenizer_json.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

// Small tokenizers that between them have every part.
const std::vector<std::string>& Seeds() {
  static const std::vector<std::string> seeds = {
      R"({"version":"1.0","truncation":null,"padding":null,
"added_tokens":[{"id":9,"content":"<|end|>","special":true,"lstrip":false,"rstrip":true,"single_word":false,"normalized":false},
{"id":10,"content":"  ","special":false,"lstrip":true,"rstrip":false,"single_word":false,"normalized":true},
{"id":11,"content":"word","special":false,"lstrip":false,"rstrip":false,"single_word":true,"normalized":true}],
"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Replace","pattern":{"Regex":"x{2,}"},"content":"y"},{"type":"Strip","strip_left":true,"strip_right":true}]},
"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},
{"type":"Split","pattern":{"Regex":"(?i:'s|'t)|[^\\r\\n\\p{L}]?\\p{L}+|\\s+(?!\\S)|\\s+"},"behavior":"MergedWithNext","invert":false},
{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},{"type":"Split","pattern":{"String":"a"},"behavior":"Removed","invert":true}]},
"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<|end|>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],
"special_tokens":{"<|end|>":{"id":"<|end|>","ids":[9],"tokens":["<|end|>"]}}},
"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":false,
"vocab":{"a":0,"b":1,"\u0120":2,"ab":3,"\u0120a":4,"\u00c3":5,"\u00a9":6,"\u00c3\u00a9":7,"aba":8},"merges":["a b",["\u0120","a"],["ab","a"],"\u00c3 \u00a9"]}})",
      R"({"version":"1.0","added_tokens":[{"id":0,"content":"<unk>","special":true}],
"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"\u2581"},{"type":"Replace","pattern":{"String":" "},"content":"\u2581"},{"type":"NFKD"},{"type":"Lowercase"}]},
"pre_tokenizer":{"type":"Metaspace","replacement":"\u2581","prepend_scheme":"first","split":true},
"post_processor":{"type":"Sequence","processors":[{"type":"ByteLevel","trim_offsets":true}]},
"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"\u2581"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":2},{"type":"Replace","pattern":{"String":"aba"},"content":""}]},
"model":{"type":"BPE","unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,"ignore_merges":true,
"vocab":{"<unk>":0,"\u2581":1,"a":2,"b":3,"ab":4,"<0x61>":5,"<0xFF>":6,"<0xC3>":7,"\u00e9":8},"merges":[["a","b"]]}})",
      R"({"version":"1.0","added_tokens":[],"normalizer":null,"decoder":{"type":"Metaspace","replacement":"_","prepend_scheme":"always"},"post_processor":null,
"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Whitespace"},{"type":"WhitespaceSplit"},{"type":"Punctuation","behavior":"Contiguous"},{"type":"CharDelimiterSplit","delimiter":"z"}]},
"model":{"vocab":{"a":0,"b":1,"c":2},"merges":[]}})"};
  return seeds;
}

// Values and brackets of a JSON text: where each begins and its size.
std::vector<std::pair<size_t, size_t>> Tokens(const std::string& json) {
  std::vector<std::pair<size_t, size_t>> tokens;
  for (size_t i = 0; i < json.size(); ++i) {
    size_t end = i + 1;
    if (json[i] == '"') {
      while (end < json.size() && json[end] != '"') end += json[end] == '\\' ? 2 : 1;
      end = std::min(end + 1, json.size());
    } else if (std::isalnum(static_cast<unsigned char>(json[i])) != 0) {
      while (end < json.size() && std::isalnum(static_cast<unsigned char>(json[end])) != 0) ++end;
    } else if (std::strchr("[]{},:", json[i]) == nullptr) {
      continue;
    }
    tokens.emplace_back(i, end - i);
    i = end - 1;
  }
  return tokens;
}

void ChangeToken(std::string& json, Draws& draw) {
  static const std::vector<std::string> kValues = {"0",
                                                   "1",
                                                   "-1",
                                                   "8",
                                                   "9",
                                                   "65535",
                                                   "70000",
                                                   "2147483647",
                                                   "2147483648",
                                                   "4294967296",
                                                   "18446744073709551616",
                                                   "1.5",
                                                   "1e400",
                                                   "null",
                                                   "true",
                                                   "false",
                                                   "[]",
                                                   "{}",
                                                   "\"\"",
                                                   "\"a\"",
                                                   "\"a b\"",
                                                   "\"ab\"",
                                                   "\" \"",
                                                   "\"\\u2581\"",
                                                   "\"(\"",
                                                   "\"[^a\"",
                                                   "\"(a*)*b\"",
                                                   "\"(?<=a+)\"",
                                                   "\"\\\\p{L}{1,3}+\"",
                                                   "\"x*\"",
                                                   "\"(?R)\"",
                                                   "\"\\\\K\"",
                                                   "\"$|^\"",
                                                   "\"(?=a\\\\K)\"",
                                                   "\"\\\\C\"",
                                                   "\"\\ud800\"",
                                                   "\"\\u0000\"",
                                                   "\"ByteLevel\"",
                                                   "\"Fuse\"",
                                                   "\"Sequence\"",
                                                   "\"NFKC\"",
                                                   "\"Isolated\"",
                                                   "\"Contiguous\"",
                                                   "\"MergedWithPrevious\"",
                                                   "\"type\"",
                                                   "\"vocab\"",
                                                   "\"Regex\"",
                                                   "\"String\"",
                                                   "\"always\"",
                                                   "\"never\"",
                                                   "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}",
                                                   "{\"type\":\"NFD\"}",
                                                   "[",
                                                   "]",
                                                   "{",
                                                   "}",
                                                   ",",
                                                   ":",
                                                   "\xff",
                                                   "\"\xc3\x28\""};
  const auto tokens = Tokens(json);
  if (tokens.empty()) return;
  const auto [at, size] = draw.OneOf(tokens);
  const auto [from, length] = draw.OneOf(tokens);
  json.replace(at, size, draw.Below(2) == 0 ? draw.OneOf(kValues) : json.substr(from, length));
}

std::string MutatedInput(Draws& draw) {
  std::string json = draw.OneOf(Seeds());
  for (size_t changes = draw.Below(4); changes > 0; --changes) {
    switch (draw.Below(20)) {
      case 0:  // words too long
        json.insert(draw.Below(json.size() + 1), draw.Below(3000), static_cast<char>(draw.Below(256)));
        break;
      case 1:
      case 2:
      case 3:
        ChangeBytes(json, draw);
        break;
      default:
        ChangeToken(json, draw);
    }
  }
  return json;
}

void UseTokenizer(const Tokenizer& tokenizer, Draws& draw) {
  std::string bytes;
  for (size_t i = 0; i < 8; ++i) bytes += static_cast<char>(draw.Below(256));
  for (const std::string& text :
       {std::string(), std::string("abab a <|end|>  word 12\n\u00e9e\u0301 'S \u2581x xx, zz"),
        std::string(300, 'a') + std::string(100, ' '), bytes}) {
    const std::vector<int32_t> ids = tokenizer.Encode(text, {.add_special_tokens = true, .parse_special = true});
    for (const int32_t id : ids) {
      ASSERT_GE(id, 0);
      ASSERT_LT(id, tokenizer.vocab_size());
    }
    const std::string decoded = tokenizer.Decode(ids);
    DecodeStream stream(tokenizer);
    std::string streamed;
    for (const int32_t id : ids) streamed += stream.Append(id);
    streamed += stream.Flush();
    ASSERT_EQ(streamed, ToValidUtf8(decoded));
  }
  for (int64_t id = 0; id < std::min<int64_t>(tokenizer.vocab_size(), 20); ++id) {
    tokenizer.TokenBytes(static_cast<int32_t>(id));
    tokenizer.IsSpecial(static_cast<int32_t>(id));
  }
}

TEST(FuzzTokenizerJson, DamagedFilesAreReadOrRefused) {
  const FuzzCounts counts = Fuzz("input: ", [](Draws& draw) {
    const auto tokenizer = ReadTokenizerJson(ParseJson(MutatedInput(draw), "input"), "input");
    UseTokenizer(*tokenizer, draw);
  });
  if (counts.inputs >= 1000) {  // the mutations are neither all harmless nor all fatal
    EXPECT_GT(counts.parsed, counts.inputs / 10);
    EXPECT_LT(counts.parsed, counts.inputs * 9 / 10);
    EXPECT_GT(counts.problems.size(), 100u);
  }
}

}  // namespace
}  // namespace taipan
