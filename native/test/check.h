// What a core test needs and no more: TEST bodies that register themselves, CHECK macros that count
// and go on, a temporary folder, and the program's main. Included once per executable.

#pragma once

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "../error.h"

namespace mlxk::test {

inline int passed = 0, failed = 0;
inline std::vector<std::pair<const char*, std::function<void()>>> cases;

inline void record(bool ok, const char* file, int line, const std::string& what) {
  ok ? ++passed : ++failed;
  if (!ok) std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
}

template <class A, class B>
void check_equal(const A& a, const B& b, const char* file, int line, const char* what) {
  std::ostringstream text;
  text << what << ": " << a << " is not " << b;
  record(a == b, file, line, text.str());
}

// The body must throw an EngineError with this reason and with `part` somewhere in its message.
template <class Body>
void check_refused(Body body, const std::string& reason, const std::string& part, const char* file, int line,
                   const char* what) {
  std::string found = "nothing was thrown";
  bool ok = false;
  try {
    body();
  } catch (const EngineError& error) {
    found = error.code + '/' + error.reason + ": " + error.what();
    ok = error.reason == reason && found.find(part) != std::string::npos;
  }
  record(ok, file, line, std::string(what) + ": wanted " + reason + " \"" + part + "\", " + found);
}

struct Case {
  Case(const char* name, std::function<void()> body) { cases.emplace_back(name, std::move(body)); }
};

struct TempFolder {
  std::string path;

  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "mlxk-test-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
    path = name;
  }
  ~TempFolder() { std::filesystem::remove_all(path); }

  std::string write(const std::string& name, const std::string& bytes) const {
    const std::string file = path + '/' + name;
    std::ofstream(file, std::ios::binary) << bytes;
    return file;
  }
};

}  // namespace mlxk::test

#define MLXK_JOIN2(a, b) a##b
#define MLXK_JOIN(a, b) MLXK_JOIN2(a, b)
#define TEST(name)                                                                                \
  static void MLXK_JOIN(test_body_, __LINE__)();                                                  \
  static mlxk::test::Case MLXK_JOIN(test_case_, __LINE__)(name, MLXK_JOIN(test_body_, __LINE__)); \
  static void MLXK_JOIN(test_body_, __LINE__)()
#define CHECK(condition) mlxk::test::record((condition), __FILE__, __LINE__, #condition)
#define CHECK_EQ(a, b) mlxk::test::check_equal((a), (b), __FILE__, __LINE__, #a " == " #b)
#define CHECK_REFUSED(expression, reason, part) \
  mlxk::test::check_refused([&] { (void)(expression); }, reason, part, __FILE__, __LINE__, #expression)

int main() {
  for (auto& [name, body] : mlxk::test::cases) {
    const int before = mlxk::test::failed;
    try {
      body();
    } catch (const std::exception& error) {
      mlxk::test::record(false, name, 0, std::string("threw ") + error.what());
    }
    if (mlxk::test::failed != before) std::fprintf(stderr, "not ok: %s\n", name);
  }
  std::printf("%d passed, %d failed\n", mlxk::test::passed, mlxk::test::failed);
  return mlxk::test::failed == 0 && mlxk::test::passed > 0 ? 0 : 1;
}
