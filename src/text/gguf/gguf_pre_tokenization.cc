// The word patterns of llama.cpp's table, in Oniguruma's syntax. Where its own matcher reads an expression in another
// way than the models' tokenizer.json (no case beyond ASCII, no marks), the expressions here say what it does.
#include "text/gguf/gguf_pre_tokenization.h"

#include "base/error.h"
#include "text/bpe/bpe_tokenizer.h"
#include "text/one_line.h"
#include "text/unicode/word_pattern.h"

namespace taipan {
namespace {

using Strings = std::vector<std::string>;

// Parts that several have.
constexpr const char* kDigit = R"(\p{N})";
constexpr const char* kUpTo3Digits = R"(\p{N}{1,3})";
constexpr const char* kContraction = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
constexpr const char* kPerhapsContraction = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?";
constexpr const char* kLetters = R"([^\r\n\p{L}\p{N}]?\p{L}+)";
constexpr const char* kSigns = R"( ?[^\s\p{L}\p{N}]+[\r\n]*)";
constexpr const char* kSignsAndSlash = R"( ?[^\s\p{L}\p{N}]+[\r\n/]*)";
constexpr const char* kSpaceRuns = R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

std::string Either(const Strings& alternatives) { return fmt::format("{}", fmt::join(alternatives, "|")); }

// GPT-4o's words, of one digit or more and with or without contractions: a capital opens a word inside of another.
// `upper` and `lower` are the characters before and behind such a place.
std::string Capitalised(const std::string& upper, const std::string& lower, const std::string& end,
                        const std::string& digits) {
  const std::string before = R"([^\r\n\p{L}\p{N}]?)";
  return Either({before + upper + "*" + lower + "+" + end, before + upper + "+" + lower + "*" + end, digits,
                 kSignsAndSlash, kSpaceRuns});
}

// As tokenizer.json has it, and as llama.cpp does it.
std::string InOriginal(const std::string& end, const std::string& digits) {
  return Capitalised(R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])", R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])", end, digits);
}
std::string InAscii(const std::string& end, const std::string& digits) {
  return Capitalised(R"((?:(?![a-z])\p{L}))", R"((?:(?![A-Z])\p{L}))", end, digits);
}

// DeepSeek's V3: \p{N} are words before this.
constexpr const char* kPunctuatedWords = R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|)"
                                         R"([^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+)";
constexpr const char* kChineseAndKana = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+";

// DeepSeek's first: the letters that have case.
constexpr const char* kCasedLetters =
    R"(\s?[)"
    R"(A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}\x{295}-\x{2AF})"
    R"(\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1})"
    R"(\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5})"
    R"(\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A})"
    R"(\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B})"
    R"(\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC})"
    R"(\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107})"
    R"(\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139})"
    R"(\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4})"
    R"(\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}\x{A771}-\x{A787})"
    R"(\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A})"
    R"(\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2})"
    R"(\x{118A0}-\x{118DF}\x{1E900}-\x{1E943})"
    R"(]+)";
constexpr const char* kAsciiAndWideSigns =
    R"(\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3001}\x{3002}]+)";
// U+0800 to U+9FA5 and Hangul without white space, which is one of ASCII to llama.cpp.
constexpr const char* kBeyondEurope =
    R"([\x{800}-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027}\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-)"
    R"(\x{9FA5}\x{AC00}-\x{D7FF}]+)";

constexpr const char* kHan =
    R"([\x{3400}-\x{4DBF}\x{4E00}-\x{9FFF}\x{F900}-\x{FAFF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2EBEF}\x{2F800}-\x{2FA1F}])";
constexpr const char* kKoreanAndChinese =
    R"([\x{AC00}-\x{D7A3}\x{3131}-\x{318E}]+|)"
    R"([\x{FF01}\x{2026}\x{201C}\x{201D}\x{2018}\x{2019}\x{2014}\x{FF1A}\x{FF1B}\x{FF0C}\x{3001}-\x{303F}\x{FE30}-\x{FE4F}]+|)"
    R"([\x{3105}-\x{312F}]+|[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)";
constexpr const char* kAsianScripts =
    R"([\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{8C48}-\x{FAFF}\x{3040}-\x{30FF}\x{FF65}-\x{FF9F}\x{2F00}-\x{2FDF})"
    R"(\x{E40}-\x{E7F}\x{E80}-\x{EFF}\x{1780}-\x{17FF}\x{1000}-\x{109F}\x{AA60}-\x{AA7F}\x{A9E0}-\x{A9FF})"
    R"(\x{AC00}-\x{D7AF}\x{1100}-\x{11FF}]+)";
// Threes of digits from the right; what stands before the first of them stays with it.
constexpr const char* kDigitsFromTheRight = R"(\P{N}*+(?:\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))|\z))";

constexpr const char* kUpToSigns = R"( ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+)";  // BLOOM
constexpr const char* kUpToSignsInOriginal = " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+";

constexpr const char* kCaseRemark = "llama.cpp's words have no capitals beyond ASCII and no marks: some get other ids";

// Names with another treatment of bytes or merges have other rows though their words are the same.
std::vector<PreTokenization> GptAndLlama() {
  const std::string qwen2 = Either({kContraction, kLetters, kDigit, kSigns, kSpaceRuns});
  return {
      {{"gpt-2", "phi-2", "mpt", "olmo", "jais", "mellum", "modern-bert", "jina-es", "jina-de", "jina-v1-en",
        "jina-v2-es", "jina-v2-de", "jina-v2-code", "roberta-bpe", "gigachat", "a.x-4.0", "exaone4", "trillion",
        "granite-docling"},
       {kGpt2Pattern}},
      {{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"},
       {kDigit, kGpt2Pattern}},
      {{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"},
       {kLlama3Pattern},
       true,
       true},
      {{"dbrx", "smaug-bpe", "chatglm-bpe"}, {kLlama3Pattern}},
      {{"glm4", "glm5"}, {kLlama3Pattern}, true},
      {{"qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez", "kormo", "f2llmv2", "grok-2", "solar-open"},
       {qwen2}},
      {{"qwen35"},
       {Either({kContraction, R"([^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+)", kDigit, R"( ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)",
                kSpaceRuns})}},
      {{"seed-coder"}, {Either({kContraction, kLetters, R"(\p{N}{1})", R"( ?[^\s\p{L}\p{N}\r\n]+)", kSpaceRuns})}},
      {{"ufakzeka"}, {Either({kLetters, kDigit, kSigns, kSpaceRuns})}},
      {{"laguna"}, {R"([^\n]+|[\n]+)", qwen2}},
      {{"minicpm5"}, {kUpTo3Digits, Either({kContraction, kLetters, R"(\p{N}+)", kSigns, kSpaceRuns})}, true},
      {{"falcon"}, {R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2Pattern, "[0-9][0-9][0-9]"}},
      {{"default"}, {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Pattern, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
  };
}

std::vector<PreTokenization> ByCase() {
  const std::string marks = R"([\p{L}\p{M}])";
  return {
      {{"tekken"}, {InAscii("", kDigit)}, true, true, {InOriginal("", kDigit)}, kCaseRemark},
      {{"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"},
       {InAscii(kPerhapsContraction, kUpTo3Digits)},
       false,
       false,
       {InOriginal(kPerhapsContraction, kUpTo3Digits)},
       kCaseRemark},
      {{"granite-embed-multi-97m"},
       {Capitalised("(?:(?![a-z])" + marks + ")", "(?:(?![A-Z])" + marks + ")", kPerhapsContraction, kUpTo3Digits)},
       true},
      {{"youtu"}, {kKoreanAndChinese, Capitalised(marks, marks, kPerhapsContraction, kDigit)}, true},
      {{"tiny_aya", "cohere2moe"},
       {kDigitsFromTheRight, Capitalised(marks, marks, kPerhapsContraction, kUpTo3Digits)},
       false,
       false,
       {R"(\d{1,3}(?=(?:\d{3})*\b))", InOriginal(kPerhapsContraction, kUpTo3Digits)},
       kCaseRemark},
      {{"kimi-k2"},
       {Either({fmt::format("{}+", kHan),
                fmt::format(R"([^\r\n\p{{L}}\p{{N}}]?(?:(?!{})\p{{L}})+{})", kHan, kPerhapsContraction), kUpTo3Digits,
                kSigns, kSpaceRuns})}},
  };
}

std::vector<PreTokenization> TheOthers() {
  const std::string breaks_or_one = R"(\s*[\r\n]|\s+(?!\S)|\s+)", punctuated = kPunctuatedWords;
  return {
      {{"deepseek-llm"}, {R"([\r\n])", kCasedLetters, kAsciiAndWideSigns, R"(\s+$)", kBeyondEurope, R"(\p{N}+)"}},
      {{"deepseek-coder"}, {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kBeyondEurope, kDigit}},
      {{"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"},
       {kUpTo3Digits, kChineseAndKana, punctuated + R"([\r\n]*|)" + kSpaceRuns}},
      {{"spark2_5"}, {kUpTo3Digits, kChineseAndKana, punctuated + R"(|[\r\n]|\s+(?!\S)|\s+)", kDigit}},
      {{"afmoe"}, {kDigitsFromTheRight, kAsianScripts, punctuated + R"([\r\n]*|)" + kSpaceRuns}},
      {{"bailingmoe", "bailingmoe2", "llada-moe"},
       {Either({kContraction, kLetters, kDigit, kSigns, breaks_or_one})},
       false,
       false,
       {R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|)" + breaks_or_one}},
      // Possessive, else a long text fills the matcher's stack.
      {{"exaone-moe"},
       {Either({kContraction, R"([^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*+(?: \p{L}\p{M}*+)*+)++)", kDigit,
                R"( ?[^\s\p{L}\p{N}]+[\r\n/]?)", breaks_or_one})},
       false,
       false,
       {Either({kContraction, R"([^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+)", kDigit,
                R"( ?[^\s\p{L}\p{N}]+[\r\n/]?)", breaks_or_one})}},
      {{"jais-2"},
       {Either({kContraction, kLetters, kUpTo3Digits, kSigns, R"(\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S))",
                R"(\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1})"})}},
      {{"superbpe"}, {R"(\p{N}+)", "(?=(?:[0-9]{3})+(?![0-9]))"}},
      {{"bloom", "poro-chat", "gpt3-finnish"}, {kUpToSigns}, false, false, {kUpToSignsInOriginal}},
      {{"viking"}, {kUpToSigns, kDigit}, false, false, {kUpToSignsInOriginal, kDigit}},
      {{"chameleon"},
       {"<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", R"(([\t\n]|    |  ))", kDigit,
        R"([\p{P}!-/:-@\[-`{-~])", kGpt2Pattern},
       false,
       true},
  };
}

}  // namespace

const std::vector<PreTokenization>& KnownPreTokenizations() {
  static const std::vector<PreTokenization> kKnown = [] {
    std::vector<PreTokenization> all = GptAndLlama();
    for (const auto& more : {ByCase(), TheOthers()}) all.insert(all.end(), more.begin(), more.end());
    return all;
  }();
  return kKnown;
}

const PreTokenization& FindPreTokenization(const std::string& given, const std::string& where) {
  const std::string name = given.empty() ? "default" : given;
  Strings names;
  for (const PreTokenization& known : KnownPreTokenizations()) {
    for (const char* one : known.names) {
      if (name == one) return known;
    }
    names.emplace_back(known.names.front());
  }
  throw UserError({where, "tokenizer.ggml.pre names a word pattern that is not supported",
                   fmt::format("{} or another name of their words", fmt::join(names, ", ")), OneLine(name)});
}

}  // namespace taipan
