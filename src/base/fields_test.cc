#include "base/fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace taipan {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

struct Options {
  int64_t steps = 100;
  double rate = 5e-4;
  bool shuffled = true;
  std::string name = "run";
  std::optional<int64_t> limit;
  std::optional<double> theta;
  std::array<double, 2> interval = {0.0, std::numeric_limits<double>::infinity()};
  std::vector<double> weights;
  std::vector<std::string> kinds = {"a"};
  std::string secret;

  bool operator==(const Options&) const = default;
};

void VisitFields(Options& o, const FieldVisitor& visit) {
  visit({.name = "steps", .help = "optimizer steps", .required = true, .range = AtLeast(1)}, &o.steps);
  visit({.name = "learning-rate", .help = "peak", .range = AboveUpTo(0, 1)}, &o.rate);
  visit({.name = "shuffled"}, &o.shuffled);
  visit({.name = "name"}, &o.name);
  visit({.name = "limit", .range = Between(2, 8)}, &o.limit);
  visit({.name = "theta", .range = Above(0)}, &o.theta);
  visit({.name = "interval"}, &o.interval);
  visit({.name = "weights"}, &o.weights);
  visit({.name = "kinds", .choices = {"a", "beta"}}, &o.kinds);
  visit({.name = "ignored", .write = false}, &o.secret);
}

Options Read(const std::string& text) {
  Options o;
  ReadFields(ParseJson(text, "run.json"), "run.json", o);
  return o;
}

std::string ErrorOf(const std::string& text) {
  try {
    Read(text);
  } catch (const UserError& e) {
    EXPECT_THAT(e.what(), Not(HasSubstr("\n")));
    return e.what();
  }
  return "no error";
}

// The error of {"steps": 1, "KEY": VALUE}.
std::string ErrorOfField(const std::string& key, const std::string& value) {
  return ErrorOf("{\"steps\": 1, \"" + key + "\": " + value + "}");
}

TEST(Fields, ReadsEveryTypeAndKeepsDefaults) {
  const Options o =
      Read(R"({"steps": 7, "learning-rate": 1, "shuffled": false, "name": "\u00e4", "limit": 8, "theta": 1e4,
                             "interval": [-0.5, {"__float__": "Infinity"}],
                             "weights": [1, -2.5], "kinds": ["beta", "a"],
                             "ignored": "x"})");
  EXPECT_EQ(o.steps, 7);
  EXPECT_EQ(o.rate, 1.0);
  EXPECT_FALSE(o.shuffled);
  EXPECT_EQ(o.name, "\xc3\xa4");
  EXPECT_EQ(o.limit, 8);
  EXPECT_EQ(o.theta, 1e4);
  EXPECT_EQ(o.interval[0], -0.5);
  EXPECT_EQ(o.interval[1], std::numeric_limits<double>::infinity());
  EXPECT_EQ(o.weights, (std::vector<double>{1, -2.5}));
  EXPECT_EQ(o.kinds, (std::vector<std::string>{"beta", "a"}));
  EXPECT_EQ(o.secret, "x");

  Options defaults;
  defaults.steps = 3;
  EXPECT_EQ(Read(R"({"steps": 3})"), defaults);
  EXPECT_EQ(Read(R"({"steps": 3, "limit": null, "interval": [0, null]})"), defaults);
}

TEST(Fields, WritesInDeclaredOrderAndReadsItBack) {
  Options o;
  o.weights = {0.1, 1e-5, 1e300, 100.0, -0.0, 5e-324};
  o.limit = 3;
  o.name = "a \"quoted\"\nname";
  o.secret = "not written";
  const std::string text = WriteFields(o);
  EXPECT_EQ(text, R"({
 "steps": 100,
 "learning-rate": 0.0005,
 "shuffled": true,
 "name": "a \"quoted\"\nname",
 "limit": 3,
 "theta": null,
 "interval": [
  0.0,
  null
 ],
 "weights": [
  0.1,
  1e-05,
  1e+300,
  100.0,
  -0.0,
  5e-324
 ],
 "kinds": [
  "a"
 ]
}
)");
  o.secret = "";
  EXPECT_EQ(Read(text), o);
  o.weights.clear();
  EXPECT_THAT(WriteFields(o), HasSubstr("\"weights\": [],\n"));
}

TEST(Fields, ListsItsFields) {
  Options o;
  const std::vector<FieldInfo> fields = ListFields(o);
  ASSERT_EQ(fields.size(), 10u);
  EXPECT_EQ(fields[0].name, "steps");
  EXPECT_EQ(fields[0].help, "optimizer steps");
  EXPECT_EQ(fields[9].name, "ignored");
}

enum class Order { kSequential, kShuffled };
std::vector<std::string> NamesOf(Order) { return {"sequential", "shuffled"}; }
struct WithOrder {
  Order order = Order::kShuffled;
};
void VisitFields(WithOrder& o, const FieldVisitor& visit) { VisitEnum(visit, {.name = "order"}, &o.order); }

TEST(Fields, AnEnumIsReadAndWrittenByTheNamesOfItsValues) {
  WithOrder o;
  EXPECT_EQ(ListFields(o)[0].choices, (std::vector<std::string>{"sequential", "shuffled"}));
  EXPECT_EQ(WriteFields(o), "{\n \"order\": \"shuffled\"\n}\n");
  ReadFields(ParseJson(R"({})", "f"), "f", o);
  EXPECT_EQ(o.order, Order::kShuffled);
  ReadFields(ParseJson(R"({"order": "sequential"})", "f"), "f", o);
  EXPECT_EQ(o.order, Order::kSequential);
  EXPECT_EQ(NameIn(o.order), "sequential");
  EXPECT_THROW(ReadFields(ParseJson(R"({"order": "random"})", "f"), "f", o), UserError);
  EXPECT_EQ(o.order, Order::kSequential);
}

TEST(Fields, RefusesKeysThatAreUnknownOrMissing) {
  EXPECT_EQ(ErrorOf(R"({"step": 1})"), "run.json: unknown key \"step\" (did you mean \"steps\"?)");
  EXPECT_EQ(ErrorOfField("learning_rate", "1"),
            "run.json: unknown key \"learning_rate\" (did you mean \"learning-rate\"?)");
  EXPECT_EQ(ErrorOfField("zzzzzzzzzzzz", "1"), "run.json: unknown key \"zzzzzzzzzzzz\"");
  EXPECT_EQ(ErrorOf("{}"), "run.json: key \"steps\" is missing (optimizer steps)");
  EXPECT_EQ(ErrorOf("[]"), "run.json: wrong JSON, expected an object, found a list of 0 values");
  EXPECT_EQ(ErrorOf("3"), "run.json: wrong JSON, expected an object, found the number 3");
  EXPECT_LT(ErrorOfField(std::string(100000, 'x'), "1").size(), 200u);
}

TEST(Fields, RefusesWrongTypes) {
  EXPECT_EQ(ErrorOfField("limit", "3.0"),
            "run.json: limit has the wrong type, expected an integer, found the number 3.0");
  EXPECT_THAT(ErrorOfField("limit", "true"), HasSubstr("expected an integer, found true"));
  EXPECT_THAT(ErrorOfField("limit", "\"3\""), HasSubstr("expected an integer, found the string \"3\""));
  EXPECT_THAT(ErrorOfField("limit", "9223372036854775808"),
              HasSubstr("expected an integer below 2^63, found the number 9223372036854775808"));
  EXPECT_THAT(ErrorOfField("limit", "99999999999999999999999"),
              HasSubstr("expected an integer, found the number 1e+23"));
  EXPECT_THAT(ErrorOf(R"({"steps": null})"), HasSubstr("expected an integer, found null"));
  EXPECT_THAT(ErrorOfField("learning-rate", "false"), HasSubstr("expected a number, found false"));
  EXPECT_THAT(ErrorOfField("learning-rate", "[0.1]"), HasSubstr("expected a number, found a list of 1 value"));
  EXPECT_THAT(ErrorOfField("shuffled", "1"), HasSubstr("expected true or false, found the number 1"));
  EXPECT_THAT(ErrorOfField("shuffled", "{}"), HasSubstr("expected true or false, found an object"));
  EXPECT_THAT(ErrorOfField("name", "1"), HasSubstr("expected a string, found the number 1"));
  EXPECT_THAT(ErrorOfField("interval", "[1]"), HasSubstr("expected a list of two numbers, null for infinity"));
  EXPECT_THAT(ErrorOfField("interval", "[1, \"inf\"]"), HasSubstr("found the string \"inf\""));
  EXPECT_THAT(ErrorOfField("interval", R"([1, {"__float__": "NaN"}])"), HasSubstr("found an object"));
  EXPECT_THAT(ErrorOfField("weights", "1"), HasSubstr("expected a list of numbers, found the number 1"));
  EXPECT_THAT(ErrorOfField("weights", "[1, null]"), HasSubstr("expected a number, found null"));
  EXPECT_THAT(ErrorOfField("kinds", "\"a\""), HasSubstr("expected a list of strings, found the string \"a\""));
  EXPECT_THAT(ErrorOfField("kinds", "[1]"), HasSubstr("expected a string, found the number 1"));
}

TEST(Fields, RefusesValuesOutOfRange) {
  EXPECT_EQ(ErrorOf(R"({"steps": 0})"), "run.json: steps is out of range, expected at least 1, found 0");
  EXPECT_EQ(ErrorOfField("learning-rate", "0"),
            "run.json: learning-rate is out of range, expected above 0 and at most 1, found 0.0");
  EXPECT_THAT(ErrorOfField("learning-rate", "1.5"), HasSubstr("found 1.5"));
  EXPECT_EQ(ErrorOfField("limit", "9"), "run.json: limit is out of range, expected 2 to 8, found 9");
  EXPECT_EQ(ErrorOfField("theta", "0"), "run.json: theta is out of range, expected above 0, found 0.0");
  EXPECT_EQ(ErrorOfField("kinds", "[\"a\", \"bets\"]"),
            "run.json: kinds, expected \"a\" or \"beta\", found the string \"bets\" (did you mean \"beta\"?)");
  EXPECT_NO_THROW(CheckRange("w", "x", 0.0, AtLeastBelow(0, 1)));
  EXPECT_THROW(CheckRange("w", "x", 1.0, AtLeastBelow(0, 1)), UserError);
  EXPECT_THROW(CheckRange("w", "x", std::numeric_limits<double>::quiet_NaN(), NumberRange{}), UserError);
  EXPECT_THROW(CheckRange("w", "x", std::numeric_limits<double>::infinity(), AtLeast(0)), UserError);
}

TEST(ParseJson, NamesFileLineAndByteOfSyntaxErrors) {
  EXPECT_THAT(
      ErrorOf("{\n \"steps\": 1,\n \"a\": tru\n}"),
      AllOf(HasSubstr("run.json: not valid JSON at line 3, byte 25: syntax error"), HasSubstr("invalid literal")));
  EXPECT_THAT(ErrorOf("{\"steps\": 1"), HasSubstr("not valid JSON at line 1, byte 12"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("not valid JSON at line 1, byte 1: "));
  for (const char* value :
       {"NaN", "Infinity", "-Infinity", "1e999", "01", "'a'", "\"\x80\"", "\"\xff\"", "\"\n\"", "1,"}) {
    EXPECT_THAT(ErrorOfField("theta", value), HasSubstr("run.json: not valid JSON at line ")) << value;
  }
  EXPECT_THAT(ErrorOf("{\"steps\": 1} {}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf(std::string("{\"steps\": 1}\0{", 14)),
              HasSubstr("not valid JSON at line 1, byte 13: a zero byte"));
}

TEST(ParseJson, RefusesDuplicateKeysAtAnyDepth) {
  EXPECT_EQ(ErrorOf("{\"steps\": 1,\n \"steps\": 2}"),
            "run.json: key \"steps\" appears a second time at line 2, byte 21");
  EXPECT_THAT(ErrorOfField("x", R"([{"a": 1, "b": {"a": 2}, "a": 3}])"), HasSubstr("key \"a\" appears a second time"));
  EXPECT_NO_THROW(ParseJson(R"([{"a": 1}, {"a": {"a": 2}}])", "x"));
  EXPECT_NO_THROW(ParseJson(R"({"b": {"a": 1}, "a": 2})", "x"));
  EXPECT_THAT(ErrorOf("{\"a\\n\": 1, \"a\\n\": 1}"), HasSubstr("key \"a\\n\" appears"));
}

TEST(ParseJson, RefusesDeepNesting) {
  EXPECT_NO_THROW(ParseJson(std::string(64, '[') + std::string(64, ']'), "x"));
  EXPECT_THAT(ErrorOf(std::string(65, '[') + std::string(65, ']')),
              HasSubstr("nested too deeply at line 1, byte 65, expected at most 64 levels"));
  EXPECT_THAT(ErrorOf(std::string(10'000'000, '[')), HasSubstr("nested too deeply"));
  std::string objects;
  for (int i = 0; i < 100; ++i) objects += "{\"a\":";
  EXPECT_THAT(ErrorOf(objects), HasSubstr("nested too deeply"));
}

TEST(ShortestDouble, ReadsBackExactly) {
  for (double value :
       {0.1, 1.0 / 3, 1e-5, 12345678901234567890.0, 5e-324, 1.7976931348623157e308, 9007199254740993.0}) {
    const std::string text = ShortestDouble(value);
    EXPECT_EQ(ParseJson(text, "x").get<double>(), value) << text;
    EXPECT_TRUE(ParseJson(text, "x").is_number_float()) << text;
  }
  EXPECT_EQ(ShortestDouble(10000), "10000.0");
  EXPECT_EQ(ShortestDouble(1e-5), "1e-05");
}

}  // namespace
}  // namespace taipan
