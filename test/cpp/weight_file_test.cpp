// Files of weights that change, shrink or disappear while they are read.
#ifndef _WIN32
#include <fcntl.h>
#include <sys/stat.h>
#endif

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <vector>

#include "core/error.h"
#include "fixture_models.h"
#include "harness.h"
#include "weights/weight_table.h"

namespace nd::test {
namespace {

template <class Check>
void test(const std::string& name, Check check) {
  if (wanted(name)) report(name, check());
}

/// Applies `change` to a file of 64 floats after it was opened, then reads it. Returns the error's text, or
/// ''.
template <class Change>
std::string read_after(Change change) {
  const std::string path = temporary_path("weights").u8string();
  std::ofstream(path, std::ios::binary) << std::string(256, '\1');
  std::string message;
  try {
    WeightTable table;
    table.add("w", TensorType::f32, {64}, false, table.add_file(path), 0, 256);
    change(path);
    std::vector<float> out(64);
    table.find("w").read(scalar_decoders, 0, 64, out.data());
  } catch (const Error& error) {
    message = error.code() == ErrorCode::io ? error.what() : std::string("wrong code: ") + error.what();
  }
  std::remove(path.c_str());
  return message;
}

void files() {
  // With a mapped file the process would die of SIGBUS.
  test("weights/ a file that shrinks after it was opened", [] {
    const std::string message =
        read_after([](const std::string& path) { std::filesystem::resize_file(path, 100); });
    return message.find("ends at byte 100 now") != std::string::npos ? "" : "unexpected: " + message;
  });
#ifndef _WIN32  // has no time that programs cannot set
  test("weights/ a file that is overwritten in place, with its times restored", [] {
    const std::string message = read_after([](const std::string& path) {
      struct stat status = {};
      if (stat(path.c_str(), &status) != 0) std::abort();
      std::fstream(path, std::ios::in | std::ios::out | std::ios::binary) << std::string(256, '\2');
      const struct timespec times[] = {status.st_atim, status.st_mtim};
      if (utimensat(AT_FDCWD, path.c_str(), times, 0) != 0) std::abort();
    });
    return message.find("it was changed, replaced or moved after it was opened") != std::string::npos
               ? ""
               : "unexpected: " + message;
  });
  test("weights/ a pipe in the place of a file", [] {
    const std::string path = temporary_path("pipe").u8string();
    if (mkfifo(path.c_str(), 0600) != 0) return std::string("there is no pipe");
    std::string message;
    try {
      const WeightFile file(path);
    } catch (const Error& error) {
      message = error.code() == ErrorCode::io ? error.what() : "wrong code";
    }
    std::remove(path.c_str());
    return message.find("expected a file that is not empty") != std::string::npos ? ""
                                                                                  : "unexpected: " + message;
  });
#endif
  test("weights/ a file that is deleted after it was opened",
       [] { return read_after([](const std::string& path) { std::remove(path.c_str()); }); });
  test("weights/ reads in pieces and in any order", [] {
    const std::string path = temporary_path("weights").u8string();
    const std::vector<float> values = noise("values", 100000);
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(values.data()), 400000);
    std::string why;
    {
      WeightTable table;
      table.add("w", TensorType::f32, {100000}, false, table.add_file(path), 0, 400000);
      Random random("order");
      std::vector<float> out(100000);
      for (int i = 0; i < 200 && why.empty(); ++i) {
        const int64_t begin = i == 0 ? 0 : random.below(100000);
        const int64_t length = i == 0 ? 100000 : 1 + random.below(100000 - begin) % (i % 2 ? 50 : 60000);
        table.find("w").read(scalar_decoders, begin, length, out.data());
        if (std::memcmp(out.data(), values.data() + begin, static_cast<size_t>(length) * 4) != 0)
          why = "wrong from " + std::to_string(begin);
      }
    }
    std::remove(path.c_str());
    return why;
  });
}

const Register suite(files);

}  // namespace
}  // namespace nd::test
