#pragma once
// For tests: the content of a small vocab.json, of a merges.txt and of a tiktoken file.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "text/unicode/byte_alphabet.h"

namespace taipan {

// The 256 bytes, the results of the merges, then `more`.
inline std::vector<std::string> TestSpellings(const std::vector<std::string>& merges,
                                              const std::vector<std::string>& more) {
  std::vector<std::string> tokens(ByteAlphabet().begin(), ByteAlphabet().end());
  for (std::string merge : merges) tokens.push_back(merge.erase(merge.find(' '), 1));
  tokens.insert(tokens.end(), more.begin(), more.end());
  return tokens;
}

inline std::string TestVocabJson(const std::vector<std::string>& tokens) {
  nlohmann::json vocab;
  for (size_t i = 0; i < tokens.size(); ++i) vocab[tokens[i]] = i;
  return vocab.dump();
}

inline std::string TestBase64(const std::string& bytes) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t k = 0; k < 3; ++k) bits = bits << 8 | (i + k < bytes.size() ? static_cast<uint8_t>(bytes[i + k]) : 0u);
    for (size_t k = 0; k < 4; ++k) {
      text += i + k <= bytes.size() ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
    }
  }
  return text;
}

// As many ranks as LLaMA-3's file: the bytes, `tokens`, then tokens that no text has.
inline std::string TestTiktoken(const std::vector<std::string>& tokens, size_t ranks = 128000) {
  std::string text;
  for (size_t i = 0; i < ranks; ++i) {
    const std::string token = i < 256                   ? std::string(1, static_cast<char>(i))
                              : i - 256 < tokens.size() ? tokens[i - 256]
                                                        : "\xff\xfe" + std::to_string(i);
    text += TestBase64(token) + " " + std::to_string(i) + "\n";
  }
  return text;
}

}  // namespace taipan
