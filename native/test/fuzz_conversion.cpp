// Mutated conversion plans on a real source file: each ends in files of the planned size or in an EngineError, and
// reads and writes nothing outside its memory (build with MLXK_SANITIZE to see that). Usage: fuzz_conversion
// [iterations] [seed]; exit 1 at the first fault.

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "../convert.h"
#include "random.h"

using namespace mlxk;
using test::Random;

namespace {

constexpr size_t kSourceBytes = 8192;
constexpr int kMostSteps = 64;

// A matrix that is quantized, one that is cast, blocks of GGUF whose rows are reordered, one that is unpacked, and two
// that lie transposed.
std::string plan(const std::string& source, const std::string& out) {
  return R"({"files":[")" + source + R"("],"shards":[{"path":")" + out +
         R"(","tensors":[{"name":"a.weight","dtype":"U32","shape":[8,8]},{"name":"a.scales","dtype":"F32","shape":[8,1]},
{"name":"a.biases","dtype":"F32","shape":[8,1]},{"name":"b.weight","dtype":"F16","shape":[4,32]},
{"name":"c.weight","dtype":"BF16","shape":[8,32]},{"name":"d.weight","dtype":"F32","shape":[2,64]},
{"name":"e.weight","dtype":"F32","shape":[2,3,8]}]}],"jobs":[
{"rows":8,"columns":64,"weight":{"encoding":"F32","parts":[[0,0,1024],[0,1024,1024]]},
"to":{"mode":"affine","bits":4,"groupSize":64},"weightTo":[0,0],"scalesTo":[0,1],"biasesTo":[0,2]},
{"rows":4,"columns":32,"weight":{"encoding":"F32","parts":[[0,2048,512]]},"cast":"F16","weightTo":[0,3]},
{"rows":8,"columns":32,"weight":{"encoding":"Q4_0","parts":[[0,4096,144]]},"interleavedHeads":2,"add":-1,"cast":"BF16",
"weightTo":[0,4]},
{"rows":2,"columns":64,"weight":{"encoding":"U32","parts":[[0,5120,64]]},"scales":{"encoding":"F32","parts":[[0,6144,8]]},
"biases":{"encoding":"F32","parts":[[0,6400,8]]},"from":{"mode":"affine","bits":4,"groupSize":64},"weightTo":[0,5]},
{"rows":6,"columns":8,"weight":{"encoding":"F32","parts":[[0,7168,128],[0,7296,128]]},
"transposed":{"matrixRows":3,"width":4,"first":1},"weightTo":[0,6]}]})";
}

// clang-format off: it would give every entry a line
const std::vector<std::string> kValues = {
    "0", "1", "2", "3", "4", "7", "8", "16", "31", "32", "33", "64", "128", "144", "256", "2048", "8191", "8192", "-1",
    "0.5", "1e9", "4294967296", "9007199254740991", "18446744073709551615", "null", "[]", "{}", "\"F32\"", "\"U32\"",
    "\"F16\"", "\"BF16\"", "\"Q4_0\"", "\"Q6_K\"", "\"affine\"", "\"mxfp4\"", "\"nvfp4\"", "\"x\""};
// clang-format on

// Most mutations put another value where one stands; few damage the text.
std::string mutated(std::string text, Random& random) {
  const uint64_t turns = 1 + random.below(3);
  for (uint64_t i = 0; i < turns && !text.empty(); ++i) {
    const size_t at = text.find_first_of(":[,", random.below(text.size()));
    if (at == std::string::npos) continue;
    if (random.one_in(20)) {
      text.erase(at, random.below(12));
      continue;
    }
    const size_t end = text.find_first_of(",]}", at + 1);
    if (end != std::string::npos) text.replace(at + 1, end - at - 1, random.pick(kValues));
  }
  return text;
}

uint64_t accepted = 0, refused = 0;

void attempt(const std::string& text) {
  try {
    Conversion conversion(ConversionPlan::parse(text));
    for (int step = 0; step < kMostSteps && !conversion.step(); ++step) {
    }
    ++accepted;
  } catch (const EngineError&) {
    ++refused;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t iterations = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 100'000;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  Random random{seed};
  std::string folder = (std::filesystem::temp_directory_path() / "mlxk-fuzz-XXXXXX").string();
  if (!mkdtemp(folder.data())) return 1;
  const std::string source = folder + "/source", out = folder + "/out";
  {
    std::ofstream file(source, std::ios::binary);
    for (size_t i = 0; i < kSourceBytes; ++i) file.put(static_cast<char>(random.next()));
  }
  int status = 0;
  {
    const mx::Thread thread(mx::Device::cpu);
    const std::string sound = plan(source, out);
    for (uint64_t i = 0; i < iterations && status == 0; ++i) {
      const std::string text = i == 0 ? sound : mutated(sound, random);
      try {
        attempt(text);
      } catch (const std::exception& error) {
        std::cout << "plan " << i << " of seed " << seed << ": " << error.what() << '\n' << text << '\n';
        status = 1;
      }
      std::filesystem::remove(out);
      if (i == 0 && accepted != 1) {
        std::cout << "the sound plan was refused\n";
        status = 1;
      }
    }
  }
  std::filesystem::remove_all(folder);
  std::cout << accepted << " plans carried out, " << refused << " refused\n";
  return status;
}
