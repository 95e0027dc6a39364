// The strict JSON reader: what it accepts, what it refuses, and where it says the fault is.

#include "../json.h"

#include <cmath>

#include "check.h"

using namespace mlxk;
using namespace std::string_literals;

namespace {

JsonOptions python() {
  JsonOptions options;
  options.python_literals = true;
  return options;
}

std::string brackets(size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

int64_t integer(const std::string& text) {
  int64_t value = -1;
  if (!Json::parse(text).get(value)) throw std::runtime_error("no integer: " + text);
  return value;
}

}  // namespace

TEST("reads every kind of value") {
  CHECK(Json::parse("null").is_null());
  CHECK(Json::parse("true").as_bool());
  CHECK(!Json::parse(" false ").as_bool());
  CHECK_EQ(Json::parse("\"a\"").as_string(), "a");
  CHECK(Json::parse("[]").as_array().empty());
  CHECK_EQ(Json::parse("[1,[2],{}]").as_array().size(), 3u);
  CHECK_EQ(Json::parse("{}").as_object().size(), 0u);
  CHECK_EQ(Json::parse("\t{ \"a\" :\r\n1 , \"b\" : 2 }").as_object().size(), 2u);
}

TEST("keeps the order of an object and finds by name") {
  const Json json = Json::parse(R"({"z":1,"a":2,"":3,"\u0061b":4})");
  const Json::Object& object = json.as_object();
  CHECK_EQ(object.members()[0].name, "z");
  CHECK_EQ(object.members()[3].name, "ab");
  int64_t value = 0;
  for (const auto& [name, want] : {std::pair<const char*, int>{"z", 1}, {"a", 2}, {"", 3}, {"ab", 4}}) {
    CHECK(object.find(name) && object.find(name)->get(value) && value == want);
  }
  CHECK(!object.find("b"));
  CHECK(!object.find("zz"));
}

TEST("finds each of 200,000 names") {
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i) {
    text += (i ? ",\"" : "\"") + std::to_string(i * 7919LL % 200'003) + "\":" + std::to_string(i);
  }
  const Json json = Json::parse(text + "}");
  bool all = true;
  for (int i = 0; i < 200'000; ++i) {
    int64_t value = -1;
    const Json* found = json.as_object().find(std::to_string(i * 7919LL % 200'003));
    all = all && found && found->get(value) && value == i;
  }
  CHECK(all);
}

TEST("keeps integers exact up to 64 bits") {
  CHECK_EQ(integer("0"), 0);
  CHECK_EQ(integer("9223372036854775807"), INT64_MAX);
  CHECK_EQ(integer("-9223372036854775808"), INT64_MIN);
  CHECK_EQ(integer("9007199254740993"), 9007199254740993);
  const Json large = Json::parse("18446744073709551615");
  int64_t narrow;
  uint64_t wide = 0;
  CHECK(large.kind() == Json::Kind::Uint && large.get(wide) && wide == UINT64_MAX);
  CHECK(!large.get(narrow));
  CHECK(Json::parse("7").get(wide) && wide == 7);
  CHECK(!Json::parse("-1").get(wide));
  CHECK(!Json::parse("1.0").get(narrow));
  CHECK(!Json::parse("true").get(narrow));
  CHECK_REFUSED(Json::parse("18446744073709551616"), "json_number", "18446744073709551616");
  CHECK_REFUSED(Json::parse("-9223372036854775809"), "json_number", "64 bits");
  JsonOptions wide_numbers;
  wide_numbers.wide_integers_as_double = true;
  CHECK_EQ(Json::parse("1000000000000000019884624838656", wide_numbers).as_double(), 1e30);
}

TEST("reads fractions and exponents to the nearest double") {
  CHECK_EQ(Json::parse("1e-05").as_double(), 1e-05);
  CHECK_EQ(Json::parse("-0.5E+2").as_double(), -50.0);
  CHECK_EQ(Json::parse("0.1").as_double(), 0.1);
  CHECK_EQ(Json::parse("1e-400").as_double(), 0.0);
  CHECK_EQ(Json::parse("3").as_double(), 3.0);
  CHECK(!Json::parse("-0").is_integer());
  CHECK(std::signbit(Json::parse("-0").as_double()));
  CHECK_EQ(Json::parse("18446744073709551615").as_double(), 18446744073709551615.0);
  CHECK_REFUSED(Json::parse("1e400"), "json_number", "1e400");
  CHECK_REFUSED(Json::parse("0." + std::string(1'000, '1')), "json_number", "1000 characters");
}

TEST("refuses what is not JSON") {
  for (const char* text : {"",
                           " ",
                           "{",
                           "[",
                           "}",
                           "[1,]",
                           "[,1]",
                           "{,}",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{\"a\":1,}",
                           "{a:1}",
                           "{'a':1}",
                           "[1 2]",
                           "{\"a\":1 \"b\":2}",
                           "{\"a\" 1}",
                           "tru",
                           "truex",
                           "nul",
                           "True",
                           "+1",
                           "01",
                           "-",
                           "-a",
                           "1.",
                           ".5",
                           "1e",
                           "1e+",
                           "0x10",
                           "1_000",
                           "NaN",
                           "Infinity",
                           "-Infinity",
                           "\"",
                           "\"a",
                           "\"\\",
                           "\"\\x\"",
                           "\"\\u12\"",
                           "\"\\u12g4\"",
                           "\"a\nb\"",
                           "1 2",
                           "{}{}",
                           "// c\n1",
                           "[1]//",
                           "\"\\ud800\"",
                           "\"\\udc00\"",
                           "\"\\ud800\\ud800\"",
                           "\"\\ud800x\""}) {
    CHECK_REFUSED(Json::parse(text), "json_syntax", " at line ");
  }
  CHECK_REFUSED(Json::parse("[1]\0"s), "json_syntax", "\\x00");
  CHECK_REFUSED(Json::parse("\0"s), "json_syntax", "");
  CHECK_REFUSED(Json::parse("\"a\0b\""s), "json_syntax", "control character");
  CHECK_REFUSED(Json::parse("\xef\xbb\xbf{}"), "json_syntax", "column 1");
}

TEST("decodes escapes") {
  CHECK_EQ(Json::parse(R"("\"\\\/\b\f\n\r\t")").as_string(), "\"\\/\b\f\n\r\t");
  CHECK_EQ(Json::parse(R"("\u0041\u00e9\u20AC\uD83D\uDE00")").as_string(), "A\u00e9\u20ac\U0001f600");
  CHECK_EQ(Json::parse(R"("\u0000")").as_string(), "\0"s);
}

TEST("refuses malformed UTF-8 and says where") {
  for (const char* bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xc3", "\xc3(", "\xe0\x80\x80", "\xe2\x82", "\xed\xa0\x80",
                          "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xfe", "\xf0\x9f\x98"}) {
    CHECK_REFUSED(Json::parse("[1,\n\"a"s + bad + "\"]"), "json_utf8", "line 2, column 3");
  }
  for (const char* good : {"\u00e9", "\u20ac", "\ud7ff", "\ue000", "\U00010000", "\U0010ffff"}) {
    CHECK_EQ(Json::parse("\""s + good + "\"").as_string(), good);
  }
}

TEST("refuses a name given twice at any level") {
  CHECK_REFUSED(Json::parse(R"({"a":1,"b":2,"a":1})"), "json_duplicate", "column 14");
  CHECK_REFUSED(Json::parse("{\"a\":1,\n\"\\u0061\":2}"), "json_duplicate", "line 2, column 1");
  CHECK_REFUSED(Json::parse(R"([{"x":{"y":1,"y":2}}])"), "json_duplicate", "\"y\"");
  CHECK_REFUSED(Json::parse(R"({"":1,"":2})"), "json_duplicate", "\"\"");
  CHECK_EQ(Json::parse(R"({"a":{"a":{"a":1}},"b":{"a":1}})").as_object().size(), 2u);
}

TEST("bounds depth, bytes and values") {
  JsonOptions options;
  options.max_depth = 4;
  CHECK(Json::parse(brackets(4), options).is_array());
  CHECK_REFUSED(Json::parse(brackets(5), options), "json_depth", "column 5");
  CHECK(Json::parse("[[[[]]],[[[]]],{\"a\":[[]]}]", options).is_array());
  CHECK_REFUSED(Json::parse(std::string(3'000'000, '[')), "json_depth", "column 65");
  CHECK(Json::parse(brackets(64)).is_array());

  options.max_bytes = 10;
  CHECK(Json::parse("[1,2,3,45]", options).is_array());
  CHECK_REFUSED(Json::parse("[1,2,3,456]", options), "json_size", "11 bytes");

  options.max_values = 4;
  CHECK(Json::parse("[1,2,3]", options).is_array());
  CHECK_REFUSED(Json::parse("[1,2,3,4]", options), "json_values", "column 8");
}

TEST("reads Python's literals only when asked") {
  CHECK(std::isnan(Json::parse("NaN", python()).as_double()));
  CHECK_EQ(Json::parse("[Infinity]", python()).as_array()[0].as_double(), INFINITY);
  CHECK_EQ(Json::parse("-Infinity", python()).as_double(), -INFINITY);
  for (const char* text : {"nan", "Nan", "inf", "+Infinity", "-NaN", "Infinit", "NaNx", "None"}) {
    CHECK_REFUSED(Json::parse(text, python()), "json_syntax", "");
  }
}

TEST("gives offset, line and column counted in bytes") {
  try {
    Json::parse("{\"\u00e9\":1,\n  \"b\":?}");
    CHECK(false);
  } catch (const JsonError& error) {
    CHECK_EQ(error.offset, 15u);
    CHECK_EQ(error.line, 2u);
    CHECK_EQ(error.column, 7u);
    CHECK_EQ(error.code, "validation_error");
  }
}

TEST("describes values without control characters") {
  CHECK_EQ(Json::parse(R"("a\u001b[31m\"\u00e9")").describe(), R"("a\x1b[31m\"\xc3\xa9")");
  CHECK_EQ(Json::parse("-12").describe(), "-12");
  CHECK_EQ(Json::parse("1.5").describe(), "1.5");
  CHECK_EQ(Json::parse("{}").describe(), "an object");
  CHECK(Json(std::string(10'000, 'x')).describe().size() < 100);
}
