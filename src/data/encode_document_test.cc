#include "data/encode_document.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/test_folder.h"
#include "text/tokenizer.h"

namespace taipan {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr const char* kTemplate =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

// Bytes and the marks of a chat.
std::unique_ptr<Tokenizer> ChatTokenizer() {
  const TestFolder folder;
  json file = json::parse(ByteTokenizerJson());
  for (const char* token : {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}) {
    file["added_tokens"].push_back({{"id", 256 + file["added_tokens"].size()}, {"content", token}, {"special", true}});
  }
  WriteFileAtomically(folder / "tokenizer.json", file.dump());
  return LoadTokenizer(folder.path());
}

class EncodeDocumentTest : public testing::Test {
 protected:
  // The tokens that carry the loss, with the weight of each stretch: "[1]abc".
  std::string Labelled(const EncodedDocument& document) const {
    std::string text;
    float last = 0;
    for (size_t i = 0; i < document.ids.size(); ++i) {
      const float w = document.weights.empty() ? 1 : document.weights[i];
      if (w != 0 && w != last) text += fmt::format("[{}]", w);
      if (w != 0) text += tokenizer_->TokenBytes(document.ids[i]);
      last = w;
    }
    return text;
  }
  EncodedDocument Encode(const json& object, std::optional<int32_t> eos = 258) const {
    return DocumentEncoder(*tokenizer_, eos, &chat_).Object(object, "a.jsonl:3");
  }
  std::string ErrorOf(const json& object) const {
    return UserErrorOf([&] { Encode(object); });
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = ChatTokenizer();
  const ChatTemplate chat_{kTemplate, "template", {}};
};

TEST_F(EncodeDocumentTest, TextsCountAsAWhole) {
  const EncodedDocument plain = Encode({{"text", "abc"}, {"other", 1}});
  EXPECT_EQ(tokenizer_->Decode(plain.ids), "abc<|endoftext|>");
  EXPECT_TRUE(plain.weights.empty());
  EXPECT_TRUE(Encode({{"text", ""}}).ids.empty());
  EXPECT_EQ(Labelled(Encode({{"text", "abc"}, {"loss_weight", 0.5}})), "[0.5]abc<|endoftext|>");
  EXPECT_EQ(Encode({{"text", "a<|im_end|>"}}, std::nullopt).ids.size(), 11u);  // text, not a mark
}

TEST_F(EncodeDocumentTest, SpansOfCharactersCarryTheLoss) {
  const json text = {{"text", "caf\u00e9 ol\u00e9!"}};
  const auto masked = [&](const json& mask) {
    json object = text;
    object["loss_mask"] = mask;
    return object;
  };
  const EncodedDocument some = Encode(masked({{0, 2}, {3, 6}}));
  EXPECT_EQ(tokenizer_->Decode(some.ids), "caf\u00e9 ol\u00e9!<|endoftext|>");
  EXPECT_EQ(Labelled(some), "[1]ca[1]\u00e9 o");
  EXPECT_EQ(Labelled(Encode(masked({{5, 9}}))), "[1]ol\u00e9!<|endoftext|>");  // up to the end: the end counts too
  EXPECT_EQ(Labelled(Encode(masked(json::array()))), "");
  for (const json& bad :
       {json({{0, 10}}), json({{3, 2}}), json({{3, 5}, {4, 6}}), json({{-1, 2}}), json({{1}}), json("x")}) {
    EXPECT_THAT(ErrorOf(masked(bad)),
                HasSubstr("a.jsonl:3: \"loss_mask\" holds no spans of the text, expected [[begin, "
                          "end], ...] in characters, rising, up to 9"))
        << bad;
  }
  EXPECT_THAT(ErrorOf({{"text", "a"}, {"loss_weight", -1}}), HasSubstr("a.jsonl:3: \"loss_weight\" is no weight"));
}

TEST_F(EncodeDocumentTest, OfMessagesTheAnswersCarryTheLoss) {
  const json chat = {{"messages",
                      {{{"role", "system"}, {"content", "Be brief."}},
                       {{"role", "user"}, {"content", "Hi"}},
                       {{"role", "assistant"}, {"content", "Hello"}},
                       {{"role", "user"}, {"content", "Bye"}},
                       {{"role", "assistant"}, {"content", "So long"}}}}};
  const EncodedDocument document = Encode(chat);
  EXPECT_EQ(tokenizer_->Decode(document.ids),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello"
            "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\nSo long<|im_end|>\n<|endoftext|>");
  EXPECT_EQ(document.ids[0], 256);  // a mark, not its letters
  EXPECT_EQ(Labelled(document), "[1]Hello<|im_end|>[1]So long<|im_end|>[1]<|endoftext|>");
  // Where the template ends an answer with the token that ends a document, there is no second one.
  EXPECT_EQ(Labelled(Encode(chat, 257)), "[1]Hello<|im_end|>[1]So long<|im_end|>");
  EXPECT_EQ(Labelled(Encode({{"messages", {{{"role", "user"}, {"content", "Hi"}}}}})), "");
}

TEST_F(EncodeDocumentTest, RefusesMessagesThatItCannotMark) {
  const json chat = {{"messages", {{{"role", "user"}, {"content", "Hi"}}, {{"role", "assistant"}, {"content", "Yo"}}}}};
  EXPECT_THAT(UserErrorOf([&] { DocumentEncoder(*tokenizer_, {}, nullptr).Object(chat, "a.jsonl:3"); }),
              HasSubstr("a.jsonl:3: messages need a chat template"));
  const ChatTemplate counts("{{ messages | length }}: {% for m in messages %}{{ m.content }}{% endfor %}", "template",
                            {});
  EXPECT_THAT(UserErrorOf([&] { DocumentEncoder(*tokenizer_, {}, &counts).Object(chat, "a.jsonl:3"); }),
              HasSubstr("a.jsonl:3: the chat template changes earlier text, so answer 2 cannot be told apart"));
  EXPECT_THAT(ErrorOf({{"messages", 7}}), HasSubstr("a.jsonl:3: \"messages\" is no list of messages"));
  EXPECT_THAT(ErrorOf({{"body", 7}}), HasSubstr("a.jsonl:3: no string \"text\", expected"));
}

}  // namespace
}  // namespace taipan
