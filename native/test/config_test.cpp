// Typed reading of config.json: ranges at the limit and one past it, and messages that name the
// field by its path.

#include "../config.h"

#include "check.h"

using namespace mlxk;

namespace {

ConfigReader config(const std::string& text) {
  JsonOptions options;
  options.python_literals = true;
  options.wide_integers_as_double = true;
  return ConfigReader(std::make_shared<const Json>(Json::parse(text, options)));
}

QuantizationConfig quantization(const std::string& text) { return read_quantization(config(text)); }

}  // namespace

TEST("reads sizes within their ranges") {
  const auto c = config(R"({"one":1,"top":1048576,"over":1048577,"heads":65536,"more":65537,
                            "deep":4096,"deeper":4097,"zero":0,"minus":-1,"null":null})");
  CHECK_EQ(c.dim("one"), 1);
  CHECK_EQ(c.dim("top"), 1048576);
  CHECK_REFUSED(c.dim("over"), "config_invalid", "config.json: over must be an integer from 1 to 1048576, got 1048577");
  CHECK_REFUSED(c.dim("zero"), "config_invalid", "got 0");
  CHECK_REFUSED(c.dim("minus", 4), "config_invalid", "got -1");
  CHECK_EQ(c.count("heads"), 65536);
  CHECK_REFUSED(c.count("more"), "config_invalid", "from 1 to 65536, got 65537");
  CHECK_REFUSED(c.count("zero"), "config_invalid", "");
  CHECK_EQ(c.count_or_zero("zero", 3), 0);
  CHECK_EQ(c.count_or_zero("absent", 3), 3);
  CHECK_REFUSED(c.count_or_zero("minus", 3), "config_invalid", "from 0 to 65536");
  CHECK_EQ(c.layers("deep"), 4096);
  CHECK_REFUSED(c.layers("deeper"), "config_invalid", "from 1 to 4096, got 4097");
  CHECK_EQ(c.integer("minus", 0, -1, 5), -1);
  CHECK_REFUSED(c.integer("one", 0, -1, 0), "config_invalid", "from -1 to 0, got 1");
}

TEST("takes the default for an absent or null field, and refuses one without default") {
  const auto c = config(R"({"null":null})");
  CHECK_EQ(c.dim("null", 7), 7);
  CHECK_EQ(c.dim("absent", 7), 7);
  CHECK_EQ(c.layers("null", 9), 9);
  CHECK_EQ(c.positive("null", 0.5f), 0.5f);
  CHECK_EQ(c.number("absent", -2.0f), -2.0f);
  CHECK_EQ(c.flag("null", true), false);  // as in Python
  CHECK_EQ(c.text("null", "silu"), "silu");
  CHECK_REFUSED(c.integer("absent", 32, 1, 8), "config_invalid",
                "config.json: absent is missing, and its default 32 is not from 1 to 8");
  CHECK(c.ids("null").empty());
  CHECK(c.is_null("null"));
  CHECK(!c.is_null("absent"));
  const ConfigReader filled = c.or_else({{"null", 3}, {"absent", 5}});
  CHECK_EQ(filled.dim("null"), 3);
  CHECK_EQ(filled.dim("absent"), 5);
  CHECK(!c.has("null"));
  CHECK(!c.maybe("null"));
  CHECK_REFUSED(c.dim("hidden_size"), "config_missing_field", "config.json: hidden_size is missing");
  CHECK_REFUSED(c.positive("null"), "config_missing_field", "null is missing");
  CHECK_REFUSED(c.text("absent"), "config_missing_field", "");
  CHECK_REFUSED(c.ints("absent", 0, 1), "config_missing_field", "");
  CHECK_REFUSED(c.child("absent"), "config_missing_field", "");
}

TEST("refuses numbers of the wrong kind or size") {
  for (const char* bad : {"\"8\"", "8.0", "8.5", "1e3", "true", "[8]", "{}", "-1", "0", "NaN", "1000000000",
                          "9007199254740993", "9223372036854775808", "100000000000000000000000", "Infinity"}) {
    CHECK_REFUSED(config("{\"n\":" + std::string(bad) + "}").layers("n"), "config_invalid",
                  "config.json: n must be an integer from 1 to 4096, got ");
  }
  for (const char* bad : {"\"1\"", "true", "[1]", "0", "-1", "-0.0", "NaN", "Infinity", "1e39", "1e-60",
                          "100000000000000000000000000000000000000000"}) {
    CHECK_REFUSED(config("{\"n\":" + std::string(bad) + "}").positive("n"), "config_invalid",
                  "config.json: n must be a positive number, got ");
  }
  for (const char* bad : {"\"1\"", "true", "NaN", "-Infinity", "-1e39"}) {
    CHECK_REFUSED(config("{\"n\":" + std::string(bad) + "}").number("n", 0), "config_invalid",
                  "must be a finite number");
  }
  CHECK_EQ(config(R"({"n":10000})").positive("n"), 10000.0f);
  CHECK_EQ(config(R"({"n":1e-06})").positive("n"), 1e-06f);
  CHECK_EQ(config(R"({"n":-0.5})").number("n", 0), -0.5f);
  CHECK_REFUSED(config(R"({"n":1})").flag("n", false), "config_invalid", "true or false, got 1");
  CHECK_REFUSED(config(R"({"n":1})").text("n"), "config_invalid", "a string, got 1");
}

TEST("reads lists and names the position of a bad element") {
  const auto c = config(R"({"a":[1,2,3],"b":[1,"x"],"c":[1.5,2],"d":["s","t"],"e":5,"f":[NaN],
                            "g":[null],"eos":[7,9],"one":7,"neg":[-1],"big":2147483648})");
  CHECK(c.ints("a", 1, 3) == (std::vector<int>{1, 2, 3}));
  CHECK_REFUSED(c.ints("a", 1, 2), "config_invalid", "a must hold integers from 1 to 2, got 3 at position 2");
  CHECK_REFUSED(c.ints("b", 0, 9), "config_invalid", "got \"x\" at position 1");
  CHECK_REFUSED(c.ints("e", 0, 9), "config_invalid", "must be a list of integers, got 5");
  CHECK(c.floats("c") == (std::vector<float>{1.5f, 2.0f}));
  CHECK_REFUSED(c.floats("f"), "config_invalid", "got NaN at position 0");
  CHECK(c.texts("d") == (std::vector<std::string>{"s", "t"}));
  CHECK_REFUSED(c.texts("g"), "config_invalid", "got null at position 0");
  CHECK(c.ids("eos") == (std::vector<int>{7, 9}));
  CHECK(c.ids("one") == (std::vector<int>{7}));
  CHECK_REFUSED(c.ids("neg"), "config_invalid", "got -1");
  CHECK_REFUSED(c.ids("big"), "config_invalid", "got 2147483648");
}

TEST("names a nested field by its whole path") {
  auto c = config(R"({"rope_scaling":{"factor":"abc","deep":{"x":0}},"n":3,"odd key":{"y":0}})");
  CHECK_REFUSED(c.child("rope_scaling").positive("factor"), "config_invalid",
                "config.json: rope_scaling.factor must be a positive number, got \"abc\"");
  CHECK_REFUSED(c.child("rope_scaling").child("deep").dim("x"), "config_invalid", "rope_scaling.deep.x must");
  CHECK_REFUSED(c.child("n"), "config_invalid", "config.json: n must be an object, got 3");
  CHECK_REFUSED(c.maybe("n"), "config_invalid", "n must be an object");
  CHECK_REFUSED(c.child("odd key").dim("y"), "config_invalid", "[\"odd key\"].y must");
  CHECK(c.maybe("rope_scaling").has_value());
  CHECK_REFUSED(config("[]"), "config_invalid", "must be an object, got a list");
}

TEST("keeps the document alive for a child") {
  auto child = std::make_unique<ConfigReader>(config(R"({"a":{"b":{"c":5}}})").child("a").child("b"));
  CHECK_EQ(child->dim("c"), 5);
}

TEST("lets a model refuse with the field's path") {
  const auto c = config(R"({"rope":{}})");
  c.require(true, "x", "never");
  CHECK_REFUSED(c.require(false, "num_heads", "must divide hidden_size"), "config_invalid",
                "config.json: num_heads must divide hidden_size");
  CHECK_REFUSED(c.child("rope").refuse("type", "is odd"), "config_invalid", "rope.type is odd");
}

TEST("accepts exactly the quantizations MLX has kernels for") {
  int accepted = 0;
  for (const char* mode : {"affine", "mxfp4", "mxfp8", "nvfp4"}) {
    for (int bits = 1; bits <= 9; ++bits) {
      for (int group : {8, 16, 32, 48, 64, 128, 256}) {
        const std::string text = "{\"quantization\":{\"bits\":" + std::to_string(bits) +
                                 ",\"group_size\":" + std::to_string(group) + ",\"mode\":\"" + mode + "\"}}";
        try {
          const auto q = quantization(text);
          CHECK(q.base == (Quantization{group, bits, mode}));
          ++accepted;
        } catch (const EngineError& error) {
          CHECK_EQ(error.reason, "quantization_unsupported");
        }
      }
    }
  }
  CHECK_EQ(accepted, 6 * 3 + 3);
  CHECK_REFUSED(quantization(R"({"quantization":{"bits":7,"group_size":64}})"), "quantization_unsupported",
                "affine with 7 bits in groups of 64");
  CHECK_REFUSED(quantization(R"({"quantization":{"bits":4,"group_size":64,"mode":"q4_k"}})"),
                "quantization_unsupported", "got \"q4_k\"");
  CHECK_REFUSED(quantization(R"({"quantization":{"bits":"4","group_size":64}})"), "config_invalid",
                "quantization.bits");
  CHECK_REFUSED(quantization(R"({"quantization":{"bits":4}})"), "config_missing_field",
                "quantization.group_size is missing");
  CHECK_REFUSED(quantization(R"({"quantization":4})"), "config_invalid", "must be an object");
}

TEST("reads per-layer entries") {
  const auto q = quantization(R"({"quantization":{"group_size":64,"bits":4,"note":"x","n":3,
      "model.layers.0.mlp.gate":{"group_size":32,"bits":8},
      "model.layers.1.self_attn":{"mode":"mxfp4"},
      "lm_head":false,"model.embed_tokens":true}})");
  CHECK(q.base == (Quantization{64, 4, "affine"}));
  CHECK_EQ(q.layers.size(), 4u);
  CHECK(q.layers.at("model.layers.0.mlp.gate") == (Quantization{32, 8, "affine"}));
  CHECK(q.layers.at("model.layers.1.self_attn") == (Quantization{32, 4, "mxfp4"}));
  CHECK(!q.layers.at("lm_head").has_value());
  CHECK(q.layers.at("model.embed_tokens") == q.base);
  CHECK_REFUSED(quantization(R"({"quantization":{"group_size":64,"bits":4,"a.b":{"bits":7}}})"),
                "quantization_unsupported", "quantization[\"a.b\"] asks for affine with 7 bits");
}

TEST("reads quantization_config only where it means the same") {
  CHECK(!quantization("{}").base.has_value());
  CHECK(!quantization(R"({"quantization":null,"quantization_config":null})").base.has_value());
  CHECK(quantization(R"({"quantization_config":{"group_size":32,"bits":8}})").base == (Quantization{32, 8, "affine"}));
  CHECK(quantization(R"({"quantization":{"group_size":64,"bits":4},
                         "quantization_config":{"quant_method":"awq"}})")
            .base == (Quantization{64, 4, "affine"}));
  CHECK(quantization(R"({"quantization_config":{"quant_method":"mxfp4","modules_to_not_convert":[]}})").base ==
        (Quantization{32, 4, "mxfp4"}));
  CHECK(quantization(R"({"quantization_config":{"quant_method":"awq","bits":4,"group_size":128}})").base ==
        (Quantization{128, 4, "affine"}));
  CHECK(!quantization(R"({"quantization_config":{"quant_method":"fp8"}})").base.has_value());
  CHECK(quantization(R"({"text_config":{"quantization_config":{"quant_method":"compressed-tensors",
                         "format":"pack-quantized"}}})")
            .base == (Quantization{32, 4, "affine"}));
  CHECK_REFUSED(quantization(R"({"quantization_config":{"quant_method":"compressed-tensors","format":"dense"}})"),
                "quantization_unsupported", "quantization_config.format must be");
  for (const char* method : {"gptq", "bitsandbytes", "modelopt"}) {
    CHECK_REFUSED(quantization("{\"quantization_config\":{\"quant_method\":\"" + std::string(method) +
                               "\",\"bits\":4,\"group_size\":128}}"),
                  "quantization_unsupported", method);
  }
}
