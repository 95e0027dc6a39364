// Mutated configurations through the JSON reader, the typed readers and the quantization rules:
// each ends in a value within its stated range or in an EngineError, and no error text can act on a
// terminal. Usage: fuzz_config [iterations] [seed]; exit 1 at the first fault.

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "../config.h"
#include "random.h"

using namespace mlxk;
using test::Random;

namespace {

const std::string kConfig = R"({"model_type":"llama","hidden_size":2048,"num_hidden_layers":16,
"num_attention_heads":32,"rms_norm_eps":1e-05,"rope_theta":500000.0,"tie_word_embeddings":true,
"sliding_window":null,"eos_token_id":[128001,128009],"layer_types":["full","sliding"],
"rope_scaling":{"factor":32.0,"rope_type":"llama3","short_factor":[1.0,1.25]},
"quantization":{"group_size":64,"bits":4,"mode":"affine","lm_head":false,
"model.layers.0.mlp":{"group_size":32,"bits":8}},"torch_dtype":"bfloat16","x":NaN})";

// clang-format off: it would give every entry a line
const std::vector<std::string> kBits = {
    "-1", "0", "1e9", "1e999", "NaN", "-Infinity", "null", "true", "\"8\"", "[]", "{}", "0.5", "4294967296",
    "9223372036854775808", "99999999999999999999999", "1048577", "-0", "[[[[[[", "\"quantization\":",
    "\"hidden_size\":", "\\u001b[2J", "\xc3\xa9", "\xff", "mxfp4", "nvfp4", "128", "16", "3", "5", "7", "{\"bits\":",
    ",", ":", "\"", "}", "]"};
// clang-format on

// Where the values of a configuration stand: a whole one is replaced more often than bytes are.
void replace_value(std::string& text, Random& random) {
  const size_t colon = text.find(':', random.below(text.size()));
  if (colon == std::string::npos) return;
  const size_t end = text.find_first_of(",}", colon);
  if (end != std::string::npos) text.replace(colon + 1, end - colon - 1, random.pick(kBits));
}

std::string make(Random& random) {
  std::string text = kConfig;
  const uint64_t turns = random.below(6);
  for (uint64_t i = 0; i < turns && !text.empty(); ++i) {
    const size_t at = random.below(text.size());
    const uint64_t kind = random.below(12);
    if (kind == 0) text[at] = static_cast<char>(random.next());
    if (kind == 1) text.erase(at, random.below(12));
    if (kind == 2) text.insert(at, random.pick(kBits));
    if (kind == 3) text.insert(at, text.substr(random.below(text.size()), random.below(80)));
    if (kind > 3) replace_value(text, random);
  }
  return text;
}

struct Fault {
  std::string what;
};

void expect(bool ok, const char* what) {
  if (!ok) throw Fault{what};
}

bool in(int value, int min, int max) { return value >= min && value <= max; }

uint64_t accepted = 0, refused = 0;

// Each reading alone, so that one refusal does not hide the next.
template <class Body>
void attempt(Body body) {
  try {
    body();
    ++accepted;
  } catch (const EngineError& error) {
    ++refused;
    expect(error.code == "validation_error", "an error of another code");
    expect(error.reason.starts_with("config_") || error.reason.starts_with("json_") ||
               error.reason == "quantization_unsupported",
           "an error of another reason");
    for (const char* c = error.what(); *c; ++c) {
      expect(*c >= 0x20 && *c < 0x7f, "an error text with bytes that are not printable");
    }
  }
}

void check(const Quantization& q) {
  const bool affine = q.mode == "affine" && in(q.bits, 2, 8) && q.bits != 7 &&
                      (q.group_size == 32 || q.group_size == 64 || q.group_size == 128);
  const Quantization others[] = {{32, 4, "mxfp4"}, {32, 8, "mxfp8"}, {16, 4, "nvfp4"}};
  expect(affine || q == others[0] || q == others[1] || q == others[2], "an odd quantization");
}

void read_all(const ConfigReader& c) {
  attempt([&] { expect(in(c.dim("hidden_size"), 1, 1 << 20), "dim"); });
  attempt([&] { expect(in(c.layers("num_hidden_layers"), 1, 4096), "layers"); });
  attempt([&] { expect(in(c.count("num_attention_heads", 1), 1, 65536), "count"); });
  attempt([&] { expect(in(c.count_or_zero("sliding_window", 0), 0, 65536), "count_or_zero"); });
  attempt([&] { expect(std::isfinite(c.number("x", 0)), "number"); });
  attempt([&] {
    const float value = c.positive("rms_norm_eps");
    expect(std::isfinite(value) && value > 0, "positive");
  });
  attempt([&] { c.flag("tie_word_embeddings", false); });
  attempt([&] { c.text("model_type"); });
  attempt([&] { c.texts("layer_types"); });
  attempt([&] {
    for (int id : c.ids("eos_token_id")) expect(id >= 0, "ids");
  });
  attempt([&] {
    if (const auto rope = c.maybe("rope_scaling")) {
      for (float value : rope->floats("short_factor")) expect(std::isfinite(value), "floats");
    }
  });
  attempt([&] {
    const QuantizationConfig q = read_quantization(c);
    if (q.base) check(*q.base);
    expect(q.base || q.layers.empty(), "layers without a base");
    for (const auto& [name, layer] : q.layers) {
      if (layer) check(*layer);
    }
  });
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t iterations = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 100'000;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  Random random{seed};
  JsonOptions options;
  options.python_literals = true;
  options.wide_integers_as_double = true;
  const auto start = std::chrono::steady_clock::now();
  for (uint64_t i = 0; i < iterations; ++i) {
    const std::string text = make(random);
    try {
      attempt([&] {
        const auto json = std::make_shared<const Json>(Json::parse(text, options));
        read_all(ConfigReader(json));
      });
    } catch (const Fault& fault) {
      std::cout << "configuration " << i << " of seed " << seed << ": " << fault.what << '\n'
                << quoted(text, 10'000) << '\n';
      return 1;
    }
  }
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  std::cout << accepted << " readings accepted, " << refused << " refused\n"
            << iterations << " configurations in " << spent.count() << " s, "
            << static_cast<uint64_t>(static_cast<double>(iterations) / spent.count()) << " a second: no fault\n";
}
